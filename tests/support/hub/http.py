"""Requests and responses as plain values, and the faults that tests put between them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent. Header names are lower case; `target` is the raw path with its query."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    def first(self, key: str, default: str = "") -> str:
        return self.query.get(key, [default])[0]

    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def token(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer. With `drop` the connection closes instead: before any byte, or after that many."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop: int | None = None

    @classmethod
    def of(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return cls(
            status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode()
        )

    @classmethod
    def error(cls, status: int, message: str, code: str | None = None) -> Response:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        return cls.of({"error": message}, status, headers)


@dataclass(slots=True)
class Fault:
    """Bends the answer to the next `times` requests whose method and path match.

    `before` answers instead of the Hub (nothing happens there); `after` changes the Hub's answer
    (what was asked for did happen); seconds delay the answer.
    """

    method: str
    path: str
    times: int
    before: Callable[[Request], Response] | None = None
    after: Callable[[Response], Response] | None = None
    seconds: float = 0.0

    def takes(self, request: Request) -> bool:
        """Whether this request is hit; counts it if so."""
        hit = (
            self.times > 0
            and request.method == self.method
            and re.search(self.path, unquote(request.path)) is not None
        )
        self.times -= hit
        return hit


def lost(response: Response) -> Response:
    """The answer never arrives."""
    return replace(response, drop=0)


def cut(response: Response) -> Response:
    """The connection breaks in the middle of the body."""
    return replace(response, drop=len(response.body) // 2)


def shortened(response: Response) -> Response:
    """A whole answer with less in it, as a broken mirror would give."""
    return replace(response, body=response.body[: len(response.body) // 2])


def flipped(response: Response) -> Response:
    """The same size with one bit changed, which no length check sees."""
    body = bytearray(response.body)
    if body:
        body[-1] ^= 1
    return replace(response, body=bytes(body))
