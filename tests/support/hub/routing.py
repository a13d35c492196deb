"""How a request finds its route, and what the routes share: who may do what, pages, dates."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import quote, unquote

from support.hub.http import Request, Response
from support.hub.state import Commit, HubRefusal, Repo, User


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
    for route_method, pattern, answer in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match and method == route_method:
            pieces = {key: unquote(value) for key, value in match.groupdict().items()}
            try:
                return answer(world, request, pieces)
            except HubRefusal as refusal:
                return Response.error(refusal.status, refusal.message, refusal.code)
    return Response.error(404, f"the test Hub knows no {request.method} {request.path}")


def route(method: str, path: str) -> Callable[[Route], Route]:
    """Let a function answer; in `path`, `{name}` is one piece, `{repo}` are two, `{path}` is the rest."""
    pattern = path.replace("{repo}", "(?P<repo>[^/]+/[^/]+)").replace("{path}", "(?P<path>.+)")
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def add(answer: Route) -> Route:
        _ROUTES.append((method, re.compile(pattern), answer))
        return answer

    return add


# Who may do what.


def user_of(world: World, request: Request) -> User | None:
    """Whose token was sent; None without one, 401 for one that nobody has."""
    if request.token is None:
        return None
    if request.token not in world.users:
        raise HubRefusal(401, "Invalid credentials in Authorization header")
    return world.users[request.token]


def readable(world: World, request: Request, name: str, *, files: bool = False) -> Repo:
    """The repo, if the caller may see it (with `files`: may also have its files)."""
    user, repo = user_of(world, request), world.repos.get(name)
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


def writer(world: World, request: Request, name: str) -> User:
    """The caller, if it may write to the repo of that name, which need not exist."""
    user = user_of(world, request)
    if user is None:
        raise HubRefusal(401, "Invalid username or password.")
    if not user.may_write or name.split("/")[0] not in user.orgs:
        raise HubRefusal(403, "You don't have the required permissions to perform this action")
    return user


def writable(world: World, request: Request, name: str) -> tuple[Repo, User]:
    """The repo and the caller, if it may write there."""
    repo = readable(world, request, name)
    return repo, writer(world, request, name)


# Common shapes.


def page(world: World, request: Request, items: Sequence[object]) -> Response:
    """One page of a list; the next one's address is in `Link`, as on the Hub."""
    start = int(request.first("cursor", "0"))
    end = start + world.page_size
    headers = {}
    if end < len(items):
        query = [f"{key}={quote(value)}" for key, values in request.query.items() for value in values]
        kept = "&".join([*(part for part in query if not part.startswith("cursor=")), f"cursor={end}"])
        headers["Link"] = f'<{world.url}{request.path}?{kept}>; rel="next"'
    return Response.of(items[start:end], headers=headers)


def date(commit: Commit) -> str:
    """As the Hub writes times."""
    return commit.date.strftime("%Y-%m-%dT%H:%M:%S.000Z")
