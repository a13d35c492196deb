"""What observers are told of a request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from support.recorder import Recorder, Shelves, version

from hotshoe.adapter.errors import EmptyPrompt, EngineUnavailable, PromptTooLong
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.serve.admission import Admission
from hotshoe.serve.call import Call, Observer, Origin
from hotshoe.serve.fairness import FairQueue
from hotshoe.serve.generation import Caller, Generation
from hotshoe.serve.pool import AdapterPool
from hotshoe.wire.values import Delta, Finished, GenerateRequest, Resolved, Sampling, Text

A = version("a")


class Watcher(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ended: list[Call] = []
        self.gaps: list[float] = []

    def on_begin(self, call: Call) -> None:
        self.told.append("begin")

    def on_resolved(self, call: Call) -> None:
        self.told.append(str(call.resolved))

    def on_tokens(self, call: Call, tokens: int, gap_seconds: float) -> None:
        self.told.append(f"{tokens} token")
        self.gaps.append(gap_seconds)

    def on_end(self, call: Call) -> None:
        self.told.append(call.outcome)
        self.ended.append(call)


class Broken(Observer):
    def on_begin(self, call: Call) -> None:
        raise OSError("disk full")


class OneVersion:
    """A catalog with one version in it."""

    async def resolve(self, ref: AdapterRef, *, session: str | None = None) -> Version:
        return A


@contextlib.asynccontextmanager
async def make(token_seconds: float = 0.0) -> AsyncIterator[tuple[Generation, Watcher, Recorder]]:
    engine, watcher = Recorder(token_seconds=token_seconds), Watcher()
    pool = AdapterPool(engine, Shelves(), capacity=2)
    yield (
        Generation(engine, OneVersion(), pool, Admission(FairQueue(8, 2)), observers=[Broken(), watcher]),
        watcher,
        engine,
    )
    await pool.close()


ASK = GenerateRequest(Text("hi"), AdapterRef.parse("acme/a"), Sampling(max_tokens=3))


async def test_observers_are_told_of_a_request_from_its_arrival_to_its_end() -> None:
    caller = Caller(origin=Origin(tenant="acme"))
    async with make() as (generation, watcher, _):
        done = await generation.complete(ASK, request_id="1", caller=caller)
    assert watcher.told == ["begin", "acme/a@v1", *["1 token"] * 3, "OK"]
    (call,) = watcher.ended
    assert (call.id, call.origin.tenant, call.usage) == ("1", "acme", done.usage)
    assert (call.prompt_tokens, call.output_tokens) == (2, 3)
    assert call.load_ms > 0
    assert call.first_token_ms >= call.load_ms


async def test_gaps_are_measured_from_token_to_token() -> None:
    async with make(token_seconds=0.02) as (generation, watcher, _):
        await generation.complete(ASK, request_id="1")
    assert all(0.015 < gap < 1 for gap in watcher.gaps)


async def test_a_refusal_ends_with_its_reason() -> None:
    async with make() as (generation, watcher, _):
        with pytest.raises(PromptTooLong):
            await generation.complete(GenerateRequest(Text("x" * 5000)), request_id="1")
    assert watcher.told == ["begin", "PROMPT_TOO_LONG"]


async def test_a_dead_engine_is_told_with_the_tokens_that_came_before() -> None:
    async with make(token_seconds=0.01) as (generation, watcher, engine):
        stream = generation.stream(ASK, request_id="1")
        assert [type(event) for event in await anext(stream)] == [Resolved, Delta]
        engine.die()
        with pytest.raises(EngineUnavailable):
            await anext(stream)
    assert watcher.told[-1] == "ENGINE_UNAVAILABLE"
    assert watcher.ended[0].output_tokens == 1


@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_a_caller_who_leaves_ends_it_as_cancelled(way: str) -> None:
    async with make(token_seconds=0.01) as (generation, watcher, engine):
        stream = generation.stream(ASK, request_id="1")
        await anext(stream)
        await anext(stream)
        if way == "close":
            await stream.aclose()
        else:
            task = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert not engine.running
    assert watcher.told[-1] == "CANCELLED"


async def test_a_caller_who_leaves_after_the_last_message_got_its_answer() -> None:
    async with make() as (generation, watcher, _):
        stream = generation.stream(ASK, request_id="1")
        async for events in stream:
            if isinstance(events[-1], Finished):
                break
        await stream.aclose()
    assert watcher.told[-1] == "OK"


def test_an_error_that_nobody_foresaw_ends_it_as_internal() -> None:
    watcher = Watcher()
    with pytest.raises(ZeroDivisionError), Call("1", None, [watcher]):
        raise ZeroDivisionError
    with pytest.raises(EmptyPrompt), Call("2", None, [watcher]):
        raise EmptyPrompt("empty")
    assert watcher.told == ["begin", "INTERNAL", "begin", "EMPTY_PROMPT"]
