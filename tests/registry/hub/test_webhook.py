"""The receiver of the Hub's webhooks: what it believes, and what it refuses."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hotshoe.adapter.errors import AddressInUse, InvalidConfig
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.webhook import MAX_PAYLOAD_BYTES, WebhookReceiver, moved_adapter

SECRET = "0123456789abcdef"
MOVED = {
    "event": {"action": "update", "scope": "repo.content"},
    "repo": {"type": "model", "name": "acme/support"},
    "updatedRefs": [{"ref": "refs/heads/prod", "oldSha": None, "newSha": "a" * 40}],
}


@pytest.fixture
def heard() -> list[AdapterName]:
    return []


@pytest.fixture
def receiver(heard: list[AdapterName]) -> Iterator[WebhookReceiver]:
    with WebhookReceiver(SECRET, heard.append) as receiver:
        yield receiver


def send(receiver: WebhookReceiver, body: bytes, **headers: str) -> int:
    host, _, port = receiver.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request(
            "POST", "/hook", body, {key.replace("_", "-"): value for key, value in headers.items()}
        )
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_move_that_the_hub_tells_is_passed_on(receiver: WebhookReceiver, heard: list[AdapterName]) -> None:
    assert send(receiver, json.dumps(MOVED).encode(), X_Webhook_Secret=SECRET) == 204
    assert heard == [AdapterName("acme", "support")]


@pytest.mark.parametrize("secret", ["", "0123456789abcdeF", SECRET + "0", SECRET[:-1], "ä" * 16])
def test_a_wrong_secret_is_refused_and_nothing_passed_on(
    receiver: WebhookReceiver, heard: list[AdapterName], secret: str
) -> None:
    assert send(receiver, json.dumps(MOVED).encode(), X_Webhook_Secret=secret) == 401
    assert heard == []


def test_a_payload_that_is_no_json_is_refused(receiver: WebhookReceiver, heard: list[AdapterName]) -> None:
    assert send(receiver, b"{", X_Webhook_Secret=SECRET) == 400
    assert send(receiver, b"[" * 100_000, X_Webhook_Secret=SECRET) == 400
    assert heard == []


def test_a_payload_over_the_limit_is_refused_unread(receiver: WebhookReceiver) -> None:
    too_long = str(MAX_PAYLOAD_BYTES + 1)
    assert send(receiver, b"", X_Webhook_Secret=SECRET, Content_Length=too_long) == 413


@pytest.mark.parametrize(
    "payload",
    [
        [],
        {},
        {**MOVED, "updatedRefs": []},
        {**MOVED, "updatedRefs": None},
        {**MOVED, "repo": {"type": "dataset", "name": "acme/support"}},
        {**MOVED, "repo": {"type": "model", "name": "../etc"}},
        {**MOVED, "repo": "acme/support"},
    ],
)
def test_what_is_no_move_of_a_model_repo_is_nobodys(payload: Any) -> None:
    assert moved_adapter(payload) is None


@pytest.mark.parametrize("secret", ["", "short", "ä" * 32])
def test_a_secret_that_is_too_weak_is_refused_before_it_is_used(secret: str) -> None:
    with pytest.raises(InvalidConfig, match="openssl rand"):
        WebhookReceiver(secret, lambda _: None)


def test_a_port_in_use_is_named(receiver: WebhookReceiver) -> None:
    port = int(receiver.address.rpartition(":")[2])
    with pytest.raises(AddressInUse, match=str(port)):
        WebhookReceiver(SECRET, lambda _: None, port=port)


def test_a_stopped_receiver_has_given_its_port_back() -> None:
    with WebhookReceiver(SECRET, lambda _: None) as receiver:
        port = int(receiver.address.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        pass
