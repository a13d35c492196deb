"""What clients try again, and what never."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.serving import Served, echo_server
from support.waiting import eventually

from hotshoe.adapter.errors import (
    AdapterNotFound,
    Conflict,
    Draining,
    EngineUnavailable,
    Exhausted,
    HotshoeError,
    InvalidConfig,
    PromptTooLong,
    Unavailable,
)
from hotshoe.client import AsyncClient, Client, Retry
from hotshoe.client.retry import Attempts
from hotshoe.wire.values import Delta

FULL = Exhausted("full", retry_seconds=1.5)
GONE = Unavailable("gone")


@pytest.mark.parametrize(
    ("failed", "error", "chance", "pause"),
    [
        (1, GONE, 0.0, 0.1),
        (1, GONE, 1.0, 0.2),
        (2, GONE, 1.0, 0.4),
        (3, EngineUnavailable("not there yet"), 1.0, 0.8),
        (1, EngineUnavailable("died over it", begun=True), 1.0, None),
        (1, Draining("leaving"), 0.5, 0.15),
        (4, GONE, 1.0, None),
        (1, FULL, 0.0, 1.5),
        (1, FULL, 1.0, 2.25),
        (1, Exhausted("for an hour", retry_seconds=3600), 0.0, None),
        (1, AdapterNotFound("no"), 0.0, None),
        (1, Conflict("moved"), 0.0, None),
        (1, HotshoeError("internal"), 0.0, None),
    ],
)
def test_only_what_the_server_did_not_begin_is_tried_again_after_a_growing_pause(
    failed: int, error: HotshoeError, chance: float, pause: float | None
) -> None:
    assert Retry().pause_seconds(failed, error, chance) == pytest.approx(pause)


def test_the_pause_grows_no_further_than_it_may() -> None:
    assert Retry(attempts=20).pause_seconds(19, GONE, 1.0) == 5.0


def test_nothing_is_tried_again_past_the_deadline() -> None:
    now = 100.0
    attempts = Attempts(Retry(), 0.3, clock=lambda: now, chance=lambda: 1.0)
    assert attempts.seconds_left == pytest.approx(0.3)
    assert attempts.pause_seconds(GONE) == pytest.approx(0.2)
    now += 0.25
    assert attempts.pause_seconds(GONE) is None


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_seconds": -1.0}, {"first_seconds": 9.0}])
def test_a_retry_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidConfig):
        Retry(**wrong)  # type: ignore[arg-type]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def coming_soon(folder: Path, address: str) -> AsyncIterator[None]:
    """A server that is there in a moment."""
    stop = asyncio.Event()

    async def serve() -> None:
        await asyncio.sleep(0.3)
        async with echo_server(folder, listen=address):
            await stop.wait()

    task = asyncio.create_task(serve())
    yield
    stop.set()
    await task


async def test_a_server_that_comes_back_answers_as_if_it_had_not_been_gone(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    patient = Retry(attempts=20, longest_seconds=0.5)
    async with coming_soon(tmp_path, address), AsyncClient(address, retry=patient) as client:
        assert (await client.generate("hi", timeout_seconds=20)).text == "base: hi"
    async with coming_soon(tmp_path / "again", address), AsyncClient(address, retry=patient) as client:
        events = [event async for event in client.stream("hi", timeout_seconds=20)]
    assert "".join(event.text for event in events if isinstance(event, Delta)) == "base: hi"


def test_a_server_that_stays_away_is_given_up_after_the_attempts_or_the_deadline() -> None:
    with Client(f"127.0.0.1:{free_port()}", retry=Retry(attempts=3, first_seconds=0.1)) as client:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            client.generate("hi")
        assert 0.1 < time.monotonic() - began < 2
        with pytest.raises(HotshoeError):
            client.generate("hi", timeout_seconds=0.01)
        with pytest.raises(Unavailable):
            list(client.stream("hi"))


async def test_a_stream_that_broke_off_is_not_begun_again(tmp_path: Path) -> None:
    async with echo_server(tmp_path, token_seconds=0.02) as served, AsyncClient(served.address) as client:
        stream = client.stream("hello")
        while not isinstance(await anext(stream), Delta):
            pass
        served.engine.die()
        with pytest.raises(EngineUnavailable):
            await asyncio.wait_for(drop(stream), 5)
        assert requests(served) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_engine_that_died_before_the_first_token_is_not_asked_the_same_again(
    tmp_path: Path, streamed: bool
) -> None:
    async with echo_server(tmp_path, token_seconds=0.3) as served, AsyncClient(served.address) as client:
        answer = drop(client.stream("hi")) if streamed else client.generate("hi")
        asked = asyncio.ensure_future(answer)
        await eventually(lambda: bool(served.engine.running))
        served.engine.die()
        with pytest.raises(EngineUnavailable) as raised:
            await asyncio.wait_for(asked, 5)
        assert raised.value.begun
        assert requests(served) == 1


async def test_a_stream_of_the_blocking_client_that_broke_off_is_not_begun_again_either(
    tmp_path: Path,
) -> None:
    async with echo_server(tmp_path, token_seconds=0.02) as served:
        begun = threading.Event()

        def read() -> None:
            with Client(served.address) as client:
                for event in client.stream("hello" * 100):
                    if isinstance(event, Delta):
                        begun.set()

        reading = asyncio.create_task(asyncio.to_thread(read))
        await eventually(begun.is_set)
        served.engine.die()
        with pytest.raises(EngineUnavailable):
            await asyncio.wait_for(reading, 5)
        assert requests(served) == 1


async def test_what_cannot_work_is_not_tried_again(tmp_path: Path) -> None:
    async with echo_server(tmp_path, max_message_bytes=10_000) as served:
        async with AsyncClient(served.address) as client:
            with pytest.raises(AdapterNotFound):
                await client.generate("hi", adapter="acme/nobody")
            with pytest.raises(PromptTooLong, match="shorten"):
                await client.generate("x" * 20_000)
        assert requests(served) == 1


async def test_a_limit_is_waited_for_as_the_server_says(tmp_path: Path) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(
        f"[tenants.acme]\nkeys = ['sha256:{hashlib.sha256(b'key').hexdigest()}']\n"
        "[tenants.acme.limits]\nrequests_per_second = 2\n"
    )
    async with echo_server(tmp_path, tenants=tenants) as served:
        async with AsyncClient(served.address, api_key="key") as client:
            began = time.monotonic()
            answers = [await client.generate("hi") for _ in range(4)]
            assert time.monotonic() - began >= 0.9
            assert {each.text for each in answers} == {"base: hi"}
        async with AsyncClient(served.address, api_key="key", retry=Retry(attempts=1)) as hasty:
            results = await asyncio.gather(*(hasty.generate("hi") for _ in range(4)), return_exceptions=True)
            assert any(isinstance(each, Exhausted) for each in results)


async def drop(stream: AsyncIterator[object]) -> None:
    """Read to the end."""
    async for _ in stream:
        pass


def requests(served: Served) -> int:
    return sum(share.requests for share in served.telemetry.tally.tenants)
