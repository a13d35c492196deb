"""Time limits and repetition of requests to the Hub: the decisions in tables, the client against a server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx2
import pytest
from support.hub import http
from support.hub.server import HubServer

from hotshoe.adapter.errors import RegistryUnavailable
from hotshoe.registry.hub_http import HubClient, Limits, asked_pause, is_transient, next_pause

NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
QUICK = Limits(read_seconds=0.3, attempts=3, first_pause_seconds=0.01)


@pytest.mark.parametrize(
    ("method", "path", "status", "again"),
    [
        ("GET", "/api/models/acme/support/refs", 200, False),
        ("GET", "/api/models/acme/support/refs", 429, True),
        ("GET", "/api/models/acme/support/refs", 503, True),
        ("GET", "/api/models/acme/support/refs", 404, False),
        ("POST", "/api/models/acme/support/commit/prod", 500, True),
        ("POST", "/api/models/acme/support/commit/prod", 409, True),
        ("POST", "/api/models/acme/support/commit/prod", 412, False),
        ("POST", "/api/models/acme/support/tag/main", 409, False),
        ("GET", "/api/models/acme/support/refs", 501, False),
    ],
)
def test_only_what_may_succeed_later_is_repeated(method: str, path: str, status: int, again: bool) -> None:
    assert is_transient(method, path, status) is again


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "Sun, 01 Nov 2026 12:00:30 GMT"}, 30),
        ({"retry-after": "Sun, 01 Nov 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"ratelimit": '"api";r=12;t=55'}, 0),
    ],
)
def test_the_hub_says_how_long_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert asked_pause(headers, NOW) == seconds


def test_pauses_grow_are_spread_and_end() -> None:
    limits = Limits(attempts=4, first_pause_seconds=1, longest_pause_seconds=3, patience_seconds=60)
    assert [next_pause(limits, attempt, 0, 0, dice=1) for attempt in (1, 2, 3, 4)] == [1, 2, 3, None]
    assert next_pause(limits, 1, 0, 0, dice=0.25) == 0.25


def test_nobody_comes_back_sooner_than_asked_or_later_than_patience() -> None:
    limits = Limits(patience_seconds=60)
    assert next_pause(limits, 1, 0, asked=20, dice=0) == 20
    assert next_pause(limits, 1, 0, asked=300, dice=0) is None
    assert next_pause(limits, 2, elapsed=50, asked=20, dice=0) is None


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as hub:
        yield hub


@pytest.fixture
def client() -> Iterator[HubClient]:
    with HubClient(QUICK, headers={"user-agent": "hotshoe/test"}) as client:
        yield client


def test_a_request_passes_once_the_hub_recovers(hub: HubServer, client: HubClient) -> None:
    hub.fail("GET", "/api/models", 503, times=2)
    assert client.get(f"{hub.url}/api/models").status_code == 200
    assert hub.count() == 3


def test_a_broken_connection_is_tried_again(hub: HubServer, client: HubClient) -> None:
    hub.bend("GET", "/api/models", http.lost)
    assert client.get(f"{hub.url}/api/models").status_code == 200


def test_an_answer_that_never_comes_is_given_up_with_an_error_of_the_house(
    hub: HubServer, client: HubClient
) -> None:
    hub.slow("GET", "/api/models", seconds=0.6, times=3)
    with pytest.raises(RegistryUnavailable, match="3 attempts"):
        client.get(f"{hub.url}/api/models")


def test_a_caller_that_asks_for_no_time_limit_gets_one_all_the_same(
    hub: HubServer, client: HubClient
) -> None:
    # huggingface_hub's paginated calls pass timeout=None.
    hub.slow("GET", "/api/models", seconds=0.6, times=3)
    with pytest.raises(RegistryUnavailable):
        client.get(f"{hub.url}/api/models", timeout=None)


def test_a_hub_that_cannot_be_reached_is_given_up_sooner() -> None:
    limits = Limits(attempts=50, unreachable_attempts=2, first_pause_seconds=0.01)
    with (
        HubClient(limits, headers={"user-agent": "hotshoe/test"}) as client,
        pytest.raises(RegistryUnavailable, match="2 attempts"),
    ):
        client.get("http://127.0.0.1:9/api/models")


def test_a_pause_beyond_patience_is_told_instead_of_slept(hub: HubServer, client: HubClient) -> None:
    hub.fail("GET", "/api/models", 429, headers={"Retry-After": "290"})
    with pytest.raises(RegistryUnavailable, match="in 290 seconds") as caught:
        client.get(f"{hub.url}/api/models")
    assert caught.value.details == {"retry_seconds": "290"}
    assert hub.count() == 1


def test_requests_of_others_in_the_process_are_left_alone(hub: HubServer) -> None:
    hub.fail("GET", "/api/models", 503)
    with HubClient(QUICK, headers={"user-agent": "transformers/5"}) as client:
        assert client.get(f"{hub.url}/api/models").status_code == 503


def test_a_stream_that_was_sent_is_not_sent_again_by_the_client(hub: HubServer, client: HubClient) -> None:
    hub.fail("PUT", "/lfs/", 500)
    answer = client.put(f"{hub.url}/lfs/acme/support/{'0' * 64}", content=iter([b"weights"]))
    assert answer.status_code == 500
    assert isinstance(answer, httpx2.Response)
