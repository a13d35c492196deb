"""What the Hub answers to each request that the real huggingface_hub client sends.

One function a route. Shapes follow what huggingface_hub 2.4 reads; refusals carry the real Hub's status,
`X-Error-Code` and `X-Error-Message`, from which the client makes its exceptions.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote, unquote

from huggingface_hub import ModelCard
from support.hub.http import Request, Response
from support.hub.state import Blob, Commit, Delete, HubRefusal, Put, Repo, User, new_repo

LFS_BYTES = 1 << 20


class World(Protocol):
    """What the routes need of the server."""

    repos: dict[str, Repo]
    users: dict[str, User]
    page_size: int

    @property
    def url(self) -> str: ...

    @property
    def cdn_url(self) -> str: ...

    def moved(self, repo: Repo, ref: str, before: str | None, after: str | None) -> None:
        """Note that a ref of a repo changed, for the webhooks."""


Route = Callable[[World, Request, dict[str, str]], Response]
_ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def dispatch(world: World, request: Request) -> Response:
    """Answer one request; refusals become the Hub's error responses."""
    method = "GET" if request.method == "HEAD" else request.method
    for route_method, pattern, route in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match and method == route_method:
            pieces = {key: unquote(value) for key, value in match.groupdict().items()}
            try:
                return route(world, request, pieces)
            except HubRefusal as refusal:
                return Response.error(refusal.status, refusal.message, refusal.code)
    return Response.error(404, f"the test Hub knows no {request.method} {request.path}")


def _route(method: str, path: str) -> Callable[[Route], Route]:
    pattern = path.replace("{repo}", "(?P<repo>[^/]+/[^/]+)").replace("{path}", "(?P<path>.+)")
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def add(route: Route) -> Route:
        _ROUTES.append((method, re.compile(pattern), route))
        return route

    return add


# Who may do what.


def _user(world: World, request: Request) -> User | None:
    if request.token is None:
        return None
    if request.token not in world.users:
        raise HubRefusal(401, "Invalid credentials in Authorization header")
    return world.users[request.token]


def _readable(world: World, request: Request, name: str, *, files: bool = False) -> Repo:
    """The repo, if the caller may see it (with `files`: may also have its files)."""
    user, repo = _user(world, request), world.repos.get(name)
    member = user is not None and name.split("/")[0] in user.orgs
    if repo is None or (repo.private and not member):
        if user is None:
            raise HubRefusal(401, "Invalid username or password.", "RepoNotFound")
        raise HubRefusal(404, "Repository not found", "RepoNotFound")
    if files and repo.gated and not member:
        raise HubRefusal(
            403 if user else 401,
            f"Access to model {name} is restricted and you must have access",
            "GatedRepo",
        )
    return repo


def _writer(world: World, request: Request, name: str) -> User:
    user = _user(world, request)
    if user is None:
        raise HubRefusal(401, "Invalid username or password.")
    if not user.may_write or name.split("/")[0] not in user.orgs:
        raise HubRefusal(403, "You don't have the required permissions to perform this action")
    return user


def _writable(world: World, request: Request, name: str) -> tuple[Repo, User]:
    repo = _readable(world, request, name)
    return repo, _writer(world, request, name)


# Accounts and repos.


@_route("GET", "/api/whoami-v2")
def _whoami(world: World, request: Request, _: dict[str, str]) -> Response:
    user = _user(world, request)
    if user is None:
        raise HubRefusal(401, "Invalid username or password.")
    role = "write" if user.may_write else "read"
    orgs = [{"name": org} for org in sorted(user.orgs)]
    return Response.of(
        {"type": "user", "name": user.name, "orgs": orgs, "auth": {"accessToken": {"role": role}}}
    )


@_route("POST", "/api/validate-yaml")
def _validate_yaml(_world: World, request: Request, _: dict[str, str]) -> Response:
    try:
        card_data(request.json()["content"])
    except ValueError as error:
        return Response.of({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return Response.of({"errors": [], "warnings": []})


@_route("POST", "/api/repos/create")
def _create_repo(world: World, request: Request, _: dict[str, str]) -> Response:
    asked = request.json()
    name = f"{asked['organization']}/{asked['name']}"
    _writer(world, request, name)
    found = {"url": f"{world.url}/{name}", "name": name}
    if name in world.repos:
        return Response.of({"error": "You already created this model repo", **found}, 409)
    world.repos[name] = new_repo(name, private=asked.get("visibility") == "private")
    return Response.of(found)


@_route("DELETE", "/api/repos/delete")
def _delete_repo(world: World, request: Request, _: dict[str, str]) -> Response:
    asked = request.json()
    repo, _user = _writable(world, request, f"{asked['organization']}/{asked['name']}")
    del world.repos[repo.name]
    return Response.of({})


@_route("GET", "/api/models")
def _list_models(world: World, request: Request, _: dict[str, str]) -> Response:
    user = _user(world, request)
    author, wanted = request.first("author"), set(request.query.get("filter", []))
    found = []
    for name, repo in sorted(world.repos.items()):
        org = name.split("/")[0]
        info = _model_info(repo, repo.resolve("main"))
        hidden = repo.private and (user is None or org not in user.orgs)
        if not hidden and (not author or org == author) and wanted <= set(info["tags"]):
            found.append(info)
    return _page(world, request, found)


@_route("GET", "/api/models/{repo}")
def _model(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = _readable(world, request, at["repo"])
    return Response.of(_model_info(repo, repo.resolve("main")))


@_route("GET", "/api/models/{repo}/revision/{revision}")
def _model_at(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = _readable(world, request, at["repo"])
    return Response.of(_model_info(repo, repo.resolve(at["revision"])))


def _model_info(repo: Repo, commit: Commit) -> dict[str, Any]:
    readme = commit.tree.get("README.md", Blob(b""))
    card = card_data(readme.data.decode())
    return {
        "id": repo.name,
        "sha": commit.sha,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "lastModified": _date(commit),
        "tags": list(card.get("tags", [])),
        "cardData": card,
        "siblings": [{"rfilename": path} for path in sorted(commit.tree)],
    }


def card_data(readme: str) -> dict[str, Any]:
    """The YAML block at the head of a README; ValueError where it is broken."""
    data: dict[str, Any] = ModelCard(readme).data.to_dict()  # type: ignore[no-untyped-call]
    return data


# Refs, history, trees.


@_route("GET", "/api/models/{repo}/refs")
def _refs(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = _readable(world, request, at["repo"])

    def listed(kind: str, refs: Mapping[str, str]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in refs.items()
        ]

    return Response.of(
        {"branches": listed("heads", repo.branches), "converts": [], "tags": listed("tags", repo.tags)}
    )


@_route("GET", "/api/models/{repo}/commits/{revision}")
def _commits(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = _readable(world, request, at["repo"])
    log = [
        {
            "id": commit.sha,
            "title": commit.title,
            "message": commit.message,
            "date": _date(commit),
            "authors": [{"user": commit.author}],
        }
        for commit in repo.log(at["revision"])
    ]
    return _page(world, request, log)


@_route("GET", "/api/models/{repo}/tree/{revision}")
def _tree(world: World, request: Request, at: dict[str, str]) -> Response:
    commit = _readable(world, request, at["repo"]).resolve(at["revision"])
    return _page(world, request, [_entry(path, blob) for path, blob in sorted(commit.tree.items())])


@_route("POST", "/api/models/{repo}/paths-info/{revision}")
def _paths_info(world: World, request: Request, at: dict[str, str]) -> Response:
    commit = _readable(world, request, at["repo"]).resolve(at["revision"])
    paths = request.form().get("paths", [])
    return Response.of([_entry(path, commit.tree[path]) for path in paths if path in commit.tree])


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.git_oid}
    if blob.lfs:
        entry["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 134}
    return entry


@_route("POST", "/api/models/{repo}/branch/{name}")
def _create_branch(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = _writable(world, request, at["repo"])
    start = repo.resolve(request.json().get("startingPoint", "main")).sha
    return _create_ref(world, repo, "heads", repo.branches, at["name"], start)


@_route("POST", "/api/models/{repo}/tag/{revision}")
def _create_tag(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = _writable(world, request, at["repo"])
    commit = repo.resolve(at["revision"])
    return _create_ref(world, repo, "tags", repo.tags, request.json()["tag"], commit.sha)


def _create_ref(world: World, repo: Repo, kind: str, refs: dict[str, str], name: str, sha: str) -> Response:
    if name in refs:
        raise HubRefusal(409, f"Reference refs/{kind}/{name} exists already")
    refs[name] = sha
    world.moved(repo, f"refs/{kind}/{name}", None, sha)
    return Response.of({})


@_route("DELETE", "/api/models/{repo}/branch/{name}")
def _delete_branch(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = _writable(world, request, at["repo"])
    return _delete_ref(world, repo, "heads", repo.branches, at["name"])


@_route("DELETE", "/api/models/{repo}/tag/{name}")
def _delete_tag(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = _writable(world, request, at["repo"])
    return _delete_ref(world, repo, "tags", repo.tags, at["name"])


def _delete_ref(world: World, repo: Repo, kind: str, refs: dict[str, str], name: str) -> Response:
    if name not in refs or name == "main":
        raise HubRefusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    world.moved(repo, f"refs/{kind}/{name}", refs.pop(name), None)
    return Response.of({})


# Commits and large files.


@_route("POST", "/api/models/{repo}/preupload/{revision}")
def _preupload(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = _writable(world, request, at["repo"])
    tree = repo.resolve(at["revision"]).tree
    files = []
    for file in request.json()["files"]:
        path = file["path"]
        large = path.endswith(".safetensors") or file["size"] > LFS_BYTES
        known = {"oid": tree[path].etag} if path in tree else {}
        mode = "lfs" if large else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
    return Response.of({"files": files})


@_route("POST", "/{repo}\\.git/info/lfs/objects/batch")
def _lfs_batch(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = _writable(world, request, at["repo"])
    objects = []
    for wanted in request.json()["objects"]:
        upload = f"{world.url}/lfs/{repo.name}/{wanted['oid']}"
        actions = {"upload": {"href": upload}, "verify": {"href": f"{upload}/verify"}}
        known = wanted["oid"] in repo.lfs
        objects.append(wanted if known else {**wanted, "actions": actions})
    return Response.of({"transfer": "basic", "objects": objects})


@_route("PUT", "/lfs/{repo}/{oid}")
def _lfs_put(world: World, request: Request, at: dict[str, str]) -> Response:
    blob = Blob(request.body)
    if blob.sha256 != at["oid"]:
        raise HubRefusal(400, f"the bytes hash to {blob.sha256}, not {at['oid']}")
    world.repos[at["repo"]].lfs[at["oid"]] = request.body
    return Response()


@_route("POST", "/lfs/{repo}/{oid}/verify")
def _lfs_verify(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = _writable(world, request, at["repo"])
    if len(repo.lfs.get(at["oid"], b"")) != request.json()["size"]:
        raise HubRefusal(404, f"LFS object {at['oid']} is not whole")
    return Response.of({})


@_route("POST", "/api/models/{repo}/commit/{branch}")
def _commit(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, user = _writable(world, request, at["repo"])
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


@_route("GET", "/{repo}/resolve/{revision}/{path}")
def _resolve(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = _readable(world, request, at["repo"], files=True)
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


@_route("GET", "/cdn/{repo}/{oid}")
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


# Common shapes.


def _page(world: World, request: Request, items: Sequence[object]) -> Response:
    """One page of a list; the next one's address is in `Link`, as on the Hub."""
    start = int(request.first("cursor", "0"))
    end = start + world.page_size
    headers = {}
    if end < len(items):
        query = [f"{key}={quote(value)}" for key, values in request.query.items() for value in values]
        kept = "&".join([*(part for part in query if not part.startswith("cursor=")), f"cursor={end}"])
        headers["Link"] = f'<{world.url}{request.path}?{kept}>; rel="next"'
    return Response.of(items[start:end], headers=headers)


def _date(commit: Commit) -> str:
    return commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
