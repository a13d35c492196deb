"""The receiver of the Hub's webhooks: what it believes, and what it refuses."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hotshoe.adapter.errors import AddressInUse, InvalidConfig
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.webhook import AT_ONCE, MAX_PAYLOAD_BYTES, WebhookReceiver, moved_adapter

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


def dial(receiver: WebhookReceiver) -> socket.socket:
    host, _, port = receiver.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=5)


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


@pytest.mark.parametrize("length", ["", "-1", "\u00b2", "1e3", "0x10"])
def test_a_length_that_is_no_number_is_refused(receiver: WebhookReceiver, length: str) -> None:
    with dial(receiver) as line:
        head = f"POST /hook HTTP/1.1\r\nX-Webhook-Secret: {SECRET}\r\nContent-Length: {length}\r\n\r\n"
        line.sendall(head.encode("latin-1"))
        assert line.recv(100).split()[1] == b"411"


def test_who_comes_beyond_the_limit_is_hung_up_on_and_served_when_there_is_room(
    receiver: WebhookReceiver, heard: list[AdapterName]
) -> None:
    waiting = [dial(receiver) for _ in range(AT_ONCE)]
    with dial(receiver) as late:
        assert late.recv(1) == b""
    for line in waiting:
        line.close()
    deadline = time.monotonic() + 5
    while not heard and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            send(receiver, json.dumps(MOVED).encode(), X_Webhook_Secret=SECRET)
    assert heard


def test_a_line_that_breaks_prints_no_traceback(
    receiver: WebhookReceiver, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), dial(receiver) as line:
        line.sendall(f"POST / HTTP/1.1\r\nX-Webhook-Secret: {SECRET}\r\nContent-Length: 9\r\n\r\n".encode())
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.close()
        deadline = time.monotonic() + 5
        while "broke off" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "broke off" in caplog.text
    assert "Traceback" not in capfd.readouterr().err + caplog.text


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
