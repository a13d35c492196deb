"""What a server is told."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from hotshoe.adapter.errors import AddressInUse, InvalidConfig
from hotshoe.serve.config import ServeConfig, check_free, parse_address
from hotshoe.serve.transport import new_server


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:50051", "127.0.0.1", 50051),
        ("localhost:0", "localhost", 0),
        ("[::1]:8080", "::1", 8080),
        ("0.0.0.0:65535", "0.0.0.0", 65535),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "50051", ":50051", "host", "host:", "host:x", "host:65536", "a:-1", "::1", "::1:1", "[a]:1"]
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(InvalidConfig, match="HOST:PORT"):
        parse_address(text)


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"])
def test_an_open_server_may_listen_on_loopback(listen: str) -> None:
    ServeConfig(base="b", listen=listen)


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.168.1.7:1", "example.com:1"])
def test_an_open_server_listens_beyond_this_machine_only_if_told_in_so_many_words(listen: str) -> None:
    with pytest.raises(InvalidConfig, match="--allow-open"):
        ServeConfig(base="b", listen=listen)
    ServeConfig(base="b", listen=listen, allow_open=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0},
        {"connection_seconds": 0.5},
        {"connection_seconds": float("nan")},
        {"drain_seconds": float("inf")},
        {"resident": 7},
        {"max_rank": 12},
        {"sequences": 0},
        {"threads": 0},
        {"kv_cache_bytes": 0},
        {"drain_seconds": -1},
        {"context_tokens": 1},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=next(iter(wrong))):
        ServeConfig(base="b", **wrong)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port} cannot be listened on"):
            check_free(f"127.0.0.1:{port}")
    check_free(f"127.0.0.1:{port}")


def test_an_address_of_another_machine_cannot_be_listened_on() -> None:
    with pytest.raises((AddressInUse, InvalidConfig)):
        check_free("192.0.2.1:50051")


def test_a_host_that_is_not_found_is_refused_by_name() -> None:
    with pytest.raises(InvalidConfig, match=r"no-such-host\.invalid"):
        check_free("no-such-host.invalid:50051")


async def test_a_connection_may_be_told_to_last_longer_than_grpc_can_count() -> None:
    assert new_server(ServeConfig(base="b", connection_seconds=1e12)) is not None
