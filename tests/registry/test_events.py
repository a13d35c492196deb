"""Following a registry."""

from __future__ import annotations

import threading
from collections.abc import Callable

from support.adapters import LEGAL, SUPPORT
from support.desk import Desk
from support.outage import FailingStore

from hotshoe.registry import Registry
from hotshoe.registry.values import Change


def test_events_come_in_the_order_in_which_things_happened(desk: Desk) -> None:
    desk.publish(1)
    first = desk.registry.promote(SUPPORT, "prod", 1)
    desk.publish(2)
    events = desk.registry.events("0", poll_seconds=0.01)
    assert [next(events) for _ in range(3)] == [
        Change(SUPPORT, "", "v1"),
        Change(SUPPORT, "prod", first.etag),
        Change(SUPPORT, "", "v2"),
    ]


def test_events_begin_now_where_no_cursor_is_given(desk: Desk) -> None:
    desk.publish(1)
    began = threading.Event()
    heard: list[Change] = []
    stop = threading.Event()

    def listen() -> None:
        _, cursor = desk.registry.changes(None)
        began.set()
        for change in desk.registry.events(cursor, poll_seconds=0.01, stop=stop):
            heard.append(change)
            stop.set()

    listener = threading.Thread(target=listen)
    listener.start()
    began.wait()
    desk.publish(2)
    listener.join(10)
    assert heard == [Change(SUPPORT, "", "v2")]


def test_an_outage_delays_events_and_loses_none(
    desk: Desk, line: FailingStore, open_remote: Callable[[], Registry]
) -> None:
    remote = open_remote()
    events = remote.events("0", [SUPPORT], poll_seconds=0.01)
    desk.publish(1)
    assert next(events) == Change(SUPPORT, "", "v1")
    line.down = True
    desk.publish(1, LEGAL)
    desk.publish(2)
    threading.Timer(0.1, lambda: setattr(line, "down", False)).start()
    assert next(events) == Change(SUPPORT, "", "v2")
