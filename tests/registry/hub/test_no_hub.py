"""Answers of something that is no Hub: a proxy, a sign-in page, a mirror that is broken."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk
from support.hub.http import Response
from support.hub.server import HubServer

from hotshoe.adapter.errors import HotshoeError, RegistryUnavailable, Tampered
from hotshoe.registry import Registry

NO_HUB = {
    "a sign-in page": b"<html>sign in</html>",
    "nothing": b"",
    "null": b"null",
    "a number": b"7",
    "an object": b'{"message": "welcome"}',
    "cut off": b'[{"name": "ma',
    "too deep": b"[" * 200_000,
    "no text": b"\xff\xfe\x00",
    "refs of another kind": b'{"branches": [{"name": 5}], "tags": null, "converts": []}',
    "text": b'{"branches": "x", "tags": "y", "converts": "z"}',
    "an empty list": b"[]",
    "a list of text": b'["a", "b"]',
}


@pytest.mark.parametrize("body", NO_HUB.values(), ids=NO_HUB.keys())
def test_what_does_not_speak_as_a_hub_does_is_an_error_of_the_house(
    hub: HubServer, open_desk: Callable[[], Desk], body: bytes
) -> None:
    desk = open_desk()
    desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1)
    questions: dict[str, Callable[[Registry], object]] = {
        "/refs$": lambda asker: asker.resolve(ref("acme/support@v1")),
        "/tree/": lambda asker: asker.fetch(asker.resolve(ref("acme/support@v1"))),
        "/commits/": lambda asker: asker.show(SUPPORT),
        "/api/models$": lambda asker: asker.adapters(),
    }
    for path, question in questions.items():
        # A log that lacks a version is asked for again: it may have been let go, and come back, meanwhile.
        times = 2 if path == "/commits/" else 1
        hub.bend("GET", path, lambda response: replace(response, body=body), times=times)
        asker = open_desk().registry
        with contextlib.suppress(HotshoeError):
            assert not question(asker), "no answer is made of this"


def test_an_alias_goes_on_pointing_where_it_did_while_a_sign_in_page_stands_before_the_hub(
    hub: HubServer, desk: Desk
) -> None:
    version = desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1)
    assert desk.registry.resolve(ref("acme/support@prod")) == version
    hub.bend("GET", "/refs$", lambda response: replace(response, body=b"<html>sign in</html>"), times=2)
    with pytest.raises(RegistryUnavailable, match="sign-in page"):
        desk.registry.targets(ref("acme/support@prod"), fresh=True)
    assert desk.registry.resolve(ref("acme/support@prod")) == version


def test_a_page_in_place_of_a_marker_is_not_remembered(hub: HubServer, open_desk: Callable[[], Desk]) -> None:
    version = open_desk().publish(1)
    open_desk().registry.promote(SUPPORT, "prod", 1)
    asker = open_desk().registry
    page = Response(headers={"Content-Type": "text/html"}, body=b"<html>sign in</html>")
    hub.bend("GET", "/resolve/.*/alias.json", lambda _: page)
    with pytest.raises(Tampered, match="not readable"):
        asker.resolve(ref("acme/support@prod"))
    assert asker.resolve(ref("acme/support@prod")) == version
