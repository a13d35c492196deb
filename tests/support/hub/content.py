"""History, trees, commits, large files and bytes, as huggingface_hub 2.4 asks for them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from support.hub.http import Request, Response
from support.hub.routing import World, date, page, readable, route, writable
from support.hub.state import Blob, Delete, HubRefusal, Put

LFS_BYTES = 1 << 20


@route("GET", "/api/models/{repo}/commits/{revision}")
def _commits(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = readable(world, request, at["repo"])
    log = [
        {
            "id": commit.sha,
            "title": commit.title,
            "message": commit.message,
            "date": date(commit),
            "authors": [{"user": commit.author}],
        }
        for commit in repo.log(at["revision"])
    ]
    return page(world, request, log)


@route("GET", "/api/models/{repo}/tree/{revision}")
def _tree(world: World, request: Request, at: dict[str, str]) -> Response:
    commit = readable(world, request, at["repo"]).resolve(at["revision"])
    return page(world, request, [_entry(path, blob) for path, blob in sorted(commit.tree.items())])


@route("POST", "/api/models/{repo}/paths-info/{revision}")
def _paths_info(world: World, request: Request, at: dict[str, str]) -> Response:
    commit = readable(world, request, at["repo"]).resolve(at["revision"])
    paths = request.form().get("paths", [])
    return Response.of([_entry(path, commit.tree[path]) for path in paths if path in commit.tree])


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.git_oid}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 134}
    return entry


# Commits and large files.


@route("POST", "/api/models/{repo}/preupload/{revision}")
def _preupload(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = writable(world, request, at["repo"])
    tree = repo.resolve(at["revision"]).tree
    files = []
    for file in request.json()["files"]:
        path = file["path"]
        large = path.endswith(".safetensors") or file["size"] > LFS_BYTES
        known = {"oid": tree[path].etag} if path in tree else {}
        mode = "lfs" if large else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
    return Response.of({"files": files})


@route("POST", "/{repo}\\.git/info/lfs/objects/batch")
def _lfs_batch(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = writable(world, request, at["repo"])
    objects = []
    for wanted in request.json()["objects"]:
        upload = f"{world.url}/lfs/{repo.name}/{wanted['oid']}"
        actions = {"upload": {"href": upload}, "verify": {"href": f"{upload}/verify"}}
        known = wanted["oid"] in repo.lfs
        objects.append(wanted if known else {**wanted, "actions": actions})
    return Response.of({"transfer": "basic", "objects": objects})


@route("PUT", "/lfs/{repo}/{oid}")
def _lfs_put(world: World, request: Request, at: dict[str, str]) -> Response:
    blob = Blob(request.body)
    if blob.sha256 != at["oid"]:
        raise HubRefusal(400, f"the bytes hash to {blob.sha256}, not {at['oid']}")
    world.repos[at["repo"]].lfs[at["oid"]] = request.body
    return Response()


@route("POST", "/lfs/{repo}/{oid}/verify")
def _lfs_verify(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = writable(world, request, at["repo"])
    if len(repo.lfs.get(at["oid"], b"")) != request.json()["size"]:
        raise HubRefusal(404, f"LFS object {at['oid']} is not whole")
    return Response.of({})


@route("POST", "/api/models/{repo}/commit/{branch}")
def _commit(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, user = writable(world, request, at["repo"])
    lines = [json.loads(line) for line in request.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    before = repo.branches.get(at["branch"])
    commit = repo.commit(
        at["branch"],
        _changes(lines),
        title=header["summary"],
        message=header["description"],
        author=user.name,
        expected=header.get("parentCommit"),
    )
    world.moved(repo, f"refs/heads/{at['branch']}", before, commit.sha)
    url = f"{world.url}/{repo.name}/commit/{commit.sha}"
    return Response.of({"success": True, "commitOid": commit.sha, "commitUrl": url})


def _changes(lines: Sequence[dict[str, Any]]) -> Iterator[Put | Delete]:
    for line in lines:
        value = line["value"]
        match line["key"]:
            case "file":
                yield Put(value["path"], base64.b64decode(value["content"]))
            case "lfsFile":
                yield Put(value["path"], lfs_oid=value["oid"])
            case "deletedFile":
                yield Delete(value["path"])
            case "deletedFolder":
                yield Delete(value["path"].rstrip("/") + "/")


# Bytes.


@route("GET", "/{repo}/resolve/{revision}/{path}")
def _resolve(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = readable(world, request, at["repo"], files=True)
    commit = repo.resolve(at["revision"])
    if at["path"] not in commit.tree:
        raise HubRefusal(404, "Entry not found", "EntryNotFound")
    blob = commit.tree[at["path"]]
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.etag}"'}
    if not blob.lfs:
        return _bytes(request, blob.data, headers)
    headers |= {
        "X-Linked-Etag": f'"{blob.sha256}"',
        "X-Linked-Size": str(len(blob.data)),
        "Location": f"{world.cdn_url}/cdn/{quote(repo.name)}/{blob.sha256}",
    }
    return Response(302, headers)


@route("GET", "/cdn/{repo}/{oid}")
def _cdn(world: World, request: Request, at: dict[str, str]) -> Response:
    if "authorization" in request.headers:
        raise HubRefusal(400, "a token was sent to a host that is not the Hub")
    return _bytes(request, world.repos[at["repo"]].lfs[at["oid"]], {"ETag": f'"{at["oid"]}"'})


def _bytes(request: Request, data: bytes, headers: Mapping[str, str]) -> Response:
    asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    headers = {"Content-Type": "application/octet-stream", **headers}
    if asked is None:
        return Response(200, headers, data)
    start = int(asked[1])
    headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return Response(206, headers, data[start:])
