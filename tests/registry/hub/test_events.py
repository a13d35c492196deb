"""From a move on the Hub, through its webhook, to who watches."""

from __future__ import annotations

from collections.abc import Callable

from support.adapters import SUPPORT
from support.desk import Desk
from support.hub.server import HubServer

from hotshoe.registry.hub_store import HubStore
from hotshoe.registry.values import Change
from hotshoe.registry.webhook import WebhookReceiver

SECRET = "a secret of the Hub and us"


def test_a_promotion_elsewhere_is_known_at_once_though_polls_are_rare(
    hub: HubServer, open_desk: Callable[..., Desk]
) -> None:
    mine, other = open_desk(options="poll_seconds=3600"), open_desk()
    other.publish(1)
    _, cursor = mine.registry.changes(None, [SUPPORT])
    hub.webhook_payloads.clear()
    move = other.registry.promote(SUPPORT, "prod", 1)
    store = mine.registry.store
    assert isinstance(store, HubStore)
    with WebhookReceiver(SECRET, store.hint) as receiver:
        assert set(hub.deliver(f"http://{receiver.address}/hook", SECRET)) == {204}
    assert mine.registry.changes(cursor, [SUPPORT])[0] == [Change(SUPPORT, "prod", move.etag)]


def test_a_forged_webhook_changes_nothing(hub: HubServer, open_desk: Callable[..., Desk]) -> None:
    mine, other = open_desk(options="poll_seconds=3600"), open_desk()
    other.publish(1)
    _, cursor = mine.registry.changes(None, [SUPPORT])
    other.registry.promote(SUPPORT, "prod", 1)
    store = mine.registry.store
    assert isinstance(store, HubStore)
    before = hub.count()
    with WebhookReceiver(SECRET, store.hint) as receiver:
        assert set(hub.deliver(f"http://{receiver.address}/hook", "a guess of the secret")) == {401}
    assert mine.registry.changes(cursor, [SUPPORT]) == ([], cursor)
    assert hub.count() == before
