"""From a move on the Hub, through its webhook, to who watches."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
from support.adapters import SUPPORT
from support.desk import Desk
from support.hub.server import HubServer

from hotshoe.registry.values import Change

SECRET = "a secret of the Hub and us"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port that is free, and the secret where the receiver looks for it."""
    monkeypatch.setenv("HOTSHOE_WEBHOOK_SECRET", SECRET)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def watching(open_desk: Callable[..., Desk], port: int) -> Iterator[tuple[Desk, str]]:
    """Somebody who polls once an hour and takes webhooks, with the cursor of now; acme/support is at v1."""
    open_desk().publish(1)
    desk = open_desk(options=f"poll_seconds=3600&webhooks=127.0.0.1:{port}")
    _, cursor = desk.registry.changes(None, [SUPPORT])
    yield desk, cursor
    desk.registry.close()


def test_a_promotion_elsewhere_is_known_at_once_though_polls_are_rare(
    hub: HubServer, open_desk: Callable[..., Desk], watching: tuple[Desk, str], port: int
) -> None:
    mine, cursor = watching
    move = open_desk().registry.promote(SUPPORT, "prod", 1)
    assert mine.registry.changes(cursor, [SUPPORT]) == ([], cursor)
    assert set(hub.deliver(f"http://127.0.0.1:{port}/hook", SECRET)) == {204}
    assert mine.registry.changes(cursor, [SUPPORT])[0] == [Change(SUPPORT, "prod", move.etag)]


def test_a_forged_webhook_changes_nothing(
    hub: HubServer, open_desk: Callable[..., Desk], watching: tuple[Desk, str], port: int
) -> None:
    mine, cursor = watching
    open_desk().registry.promote(SUPPORT, "prod", 1)
    before = hub.count()
    assert set(hub.deliver(f"http://127.0.0.1:{port}/hook", "a guess of the secret")) == {401}
    assert mine.registry.changes(cursor, [SUPPORT]) == ([], cursor)
    assert hub.count() == before


def test_who_only_reads_takes_no_port(open_desk: Callable[..., Desk], port: int) -> None:
    desk = open_desk(options=f"webhooks=127.0.0.1:{port}")
    assert desk.registry.adapters() == []
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_watcher_that_is_closed_gives_the_port_back(watching: tuple[Desk, str], port: int) -> None:
    watching[0].registry.close()
    with socket.create_server(("127.0.0.1", port)):
        pass
