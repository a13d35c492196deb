"""Accounts, repos and their refs, as huggingface_hub 2.4 asks for them.

Refusals carry the real Hub's status, `X-Error-Code` and `X-Error-Message`, from which the client makes its
exceptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard
from support.hub.http import Request, Response
from support.hub.routing import World, date, page, readable, route, user_of, writable, writer
from support.hub.state import Blob, Commit, HubRefusal, Repo, new_repo


@route("GET", "/api/whoami-v2")
def _whoami(world: World, request: Request, _: dict[str, str]) -> Response:
    user = user_of(world, request)
    if user is None:
        raise HubRefusal(401, "Invalid username or password.")
    role = "write" if user.may_write else "read"
    orgs = [{"name": org} for org in sorted(user.orgs)]
    return Response.of(
        {"type": "user", "name": user.name, "orgs": orgs, "auth": {"accessToken": {"role": role}}}
    )


@route("POST", "/api/validate-yaml")
def _validate_yaml(_world: World, request: Request, _: dict[str, str]) -> Response:
    try:
        card_data(request.json()["content"])
    except Exception as error:  # Whatever the parser raises: the card is broken.
        return Response.of({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return Response.of({"errors": [], "warnings": []})


@route("POST", "/api/repos/create")
def _create_repo(world: World, request: Request, _: dict[str, str]) -> Response:
    asked = request.json()
    name = f"{asked['organization']}/{asked['name']}"
    writer(world, request, name)
    found = {"url": f"{world.url}/{name}", "name": name}
    if name in world.repos:
        return Response.of({"error": "You already created this model repo", **found}, 409)
    world.repos[name] = new_repo(name, private=asked.get("visibility") == "private")
    return Response.of(found)


@route("DELETE", "/api/repos/delete")
def _delete_repo(world: World, request: Request, _: dict[str, str]) -> Response:
    asked = request.json()
    repo, _user = writable(world, request, f"{asked['organization']}/{asked['name']}")
    del world.repos[repo.name]
    return Response.of({})


@route("GET", "/api/models")
def _list_models(world: World, request: Request, _: dict[str, str]) -> Response:
    user = user_of(world, request)
    author, wanted = request.first("author"), set(request.query.get("filter", []))
    found = []
    for name, repo in sorted(world.repos.items()):
        org = name.split("/")[0]
        info = _model_info(repo, repo.resolve("main"))
        hidden = repo.private and (user is None or org not in user.orgs)
        if not hidden and (not author or org == author) and wanted <= set(info["tags"]):
            found.append(info)
    return page(world, request, found)


@route("GET", "/api/models/{repo}")
def _model(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = readable(world, request, at["repo"])
    return Response.of(_model_info(repo, repo.resolve("main")))


@route("GET", "/api/models/{repo}/revision/{revision}")
def _model_at(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = readable(world, request, at["repo"])
    return Response.of(_model_info(repo, repo.resolve(at["revision"])))


def _model_info(repo: Repo, commit: Commit) -> dict[str, Any]:
    readme = commit.tree.get("README.md", Blob(b""))
    card = card_data(readme.data.decode())
    return {
        "id": repo.name,
        "sha": commit.sha,
        "private": repo.private,
        "gated": "manual" if repo.gated else False,
        "lastModified": date(commit),
        "tags": list(card.get("tags", [])),
        "cardData": card,
        "siblings": [{"rfilename": path} for path in sorted(commit.tree)],
    }


def card_data(readme: str) -> dict[str, Any]:
    """The YAML block at the head of a README; raises where it is broken."""
    data: dict[str, Any] = ModelCard(readme).data.to_dict()  # type: ignore[no-untyped-call]
    return data


# Refs.


@route("GET", "/api/models/{repo}/refs")
def _refs(world: World, request: Request, at: dict[str, str]) -> Response:
    repo = readable(world, request, at["repo"])

    def listed(kind: str, refs: Mapping[str, str]) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": sha} for name, sha in refs.items()
        ]

    return Response.of(
        {"branches": listed("heads", repo.branches), "converts": [], "tags": listed("tags", repo.tags)}
    )


@route("POST", "/api/models/{repo}/branch/{name}")
def _create_branch(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = writable(world, request, at["repo"])
    start = repo.resolve(request.json().get("startingPoint", "main")).sha
    return _create_ref(world, repo, "heads", repo.branches, at["name"], start)


@route("POST", "/api/models/{repo}/tag/{revision}")
def _create_tag(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = writable(world, request, at["repo"])
    commit = repo.resolve(at["revision"])
    return _create_ref(world, repo, "tags", repo.tags, request.json()["tag"], commit.sha)


def _create_ref(world: World, repo: Repo, kind: str, refs: dict[str, str], name: str, sha: str) -> Response:
    if name in refs:
        raise HubRefusal(409, f"Reference refs/{kind}/{name} exists already")
    refs[name] = sha
    world.moved(repo, f"refs/{kind}/{name}", None, sha)
    return Response.of({})


@route("DELETE", "/api/models/{repo}/branch/{name}")
def _delete_branch(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = writable(world, request, at["repo"])
    return _delete_ref(world, repo, "heads", repo.branches, at["name"])


@route("DELETE", "/api/models/{repo}/tag/{name}")
def _delete_tag(world: World, request: Request, at: dict[str, str]) -> Response:
    repo, _user = writable(world, request, at["repo"])
    return _delete_ref(world, repo, "tags", repo.tags, at["name"])


def _delete_ref(world: World, repo: Repo, kind: str, refs: dict[str, str], name: str) -> Response:
    if name not in refs or name == "main":
        raise HubRefusal(404, f"Invalid rev id: {name}", "RevisionNotFound")
    world.moved(repo, f"refs/{kind}/{name}", refs.pop(name), None)
    return Response.of({})
