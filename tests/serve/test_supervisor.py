"""An engine that dies, and the server that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.recorder import BASE
from support.serving import open_shop
from support.waiting import eventually

from hotshoe.adapter.errors import EngineUnavailable, InvalidConfig, Unavailable
from hotshoe.client import AsyncClient
from hotshoe.client.health import is_ready
from hotshoe.client.retry import NEVER
from hotshoe.serve import supervisor as supervisor_module
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.engine import Engine
from hotshoe.serve.server import running
from hotshoe.serve.supervisor import SupervisedEngine, prove
from hotshoe.wire.values import Sampling


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_SECONDS", 0.01)


class Workshop:
    """Makes echo engines. faults: raised instead, one a start. gate: a start waits for it."""

    def __init__(self, token_seconds: float = 0.0) -> None:
        self.made: list[EchoEngine] = []
        self.faults: list[Exception] = []
        self.dead_on_arrival = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.token_seconds = token_seconds

    async def start(self) -> Engine:
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        engine = EchoEngine(BASE, token_seconds=self.token_seconds)
        self.made.append(engine)
        if self.dead_on_arrival:
            self.dead_on_arrival -= 1
            engine.die()
        return engine


@contextlib.asynccontextmanager
async def supervised() -> AsyncIterator[tuple[SupervisedEngine, Workshop]]:
    workshop = Workshop()
    engine = SupervisedEngine(await workshop.start(), workshop.start)
    async with engine.supervised():
        yield engine, workshop
    await engine.close()


async def answer(engine: Engine) -> str:
    stream = engine.generate("r", tuple(b"hi"), Sampling(max_tokens=50), None)
    return "".join([chunk.text async for chunk in stream])


async def test_an_engine_that_died_is_replaced() -> None:
    async with supervised() as (engine, workshop):
        assert await answer(engine) == "base: hi"
        workshop.made[0].die()
        await eventually(lambda: engine.restarts == 1)
        assert await answer(engine) == "base: hi"
        assert len(workshop.made) == 2


async def test_an_engine_that_fails_in_a_way_nobody_foresaw_is_replaced_too() -> None:
    class Odd(EchoEngine):
        async def check(self) -> None:
            raise ZeroDivisionError("of all things")

    workshop = Workshop()
    engine = SupervisedEngine(Odd(BASE), workshop.start)
    async with engine.supervised():
        await eventually(lambda: engine.restarts == 1)
        assert await answer(engine) == "base: hi"
    await engine.close()


async def test_while_there_is_none_everybody_is_told_so_at_once() -> None:
    async with supervised() as (engine, workshop):
        workshop.gate.clear()
        workshop.made[0].die()
        await asyncio.sleep(0.05)
        for call in (engine.check(), answer(engine)):
            with pytest.raises(EngineUnavailable, match="being started again"):
                await call
        assert engine.encode_text("hi") == tuple(b"hi")
        workshop.gate.set()
        await eventually(lambda: engine.restarts == 1)


async def test_starts_that_fail_are_tried_again_with_growing_pauses() -> None:
    async with supervised() as (engine, workshop):
        workshop.faults = [EngineUnavailable("no memory"), InvalidConfig("odd"), OSError("disk")]
        began = time.monotonic()
        workshop.made[0].die()
        await eventually(lambda: engine.restarts == 1)
        assert time.monotonic() - began > 0.01 + 0.02 + 0.04 + 0.08


async def test_one_that_is_started_but_answers_nothing_does_not_count() -> None:
    async with supervised() as (engine, workshop):
        workshop.dead_on_arrival = 2
        workshop.made[0].die()
        await eventually(lambda: engine.restarts == 1)
        assert len(workshop.made) == 4


async def test_others_are_told_of_the_death_and_of_the_return_whatever_they_make_of_it() -> None:
    told: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError

    async def lost() -> None:
        told.append("lost")

    async def back() -> None:
        told.append("back")

    async with supervised() as (engine, workshop):
        engine.on_lost(fail)
        engine.on_lost(lost)
        engine.on_back(back)
        workshop.made[0].die()
        await eventually(lambda: len(told) == 2)
    assert told == ["lost", "back"]


async def test_closing_calls_a_start_off_and_does_not_wait_for_it() -> None:
    workshop = Workshop()
    engine = SupervisedEngine(await workshop.start(), workshop.start)
    async with engine.supervised():
        workshop.gate.clear()
        workshop.made[0].die()
        await asyncio.sleep(0.1)
    await asyncio.wait_for(engine.close(), 1)
    assert len(workshop.made) == 1


async def test_an_engine_that_came_up_all_the_same_is_closed() -> None:
    workshop = Workshop()

    async def start() -> Engine:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return await workshop.start()

    engine = SupervisedEngine(await workshop.start(), start)
    async with engine.supervised():
        workshop.made[0].die()
        await asyncio.sleep(0.1)
    await asyncio.wait_for(engine.close(), 5)
    with pytest.raises(EngineUnavailable, match="closed"):
        await workshop.made[1].check()


async def test_proving_wants_a_token() -> None:
    engine = EchoEngine(BASE)
    await prove(engine)
    engine.die()
    with pytest.raises(EngineUnavailable):
        await prove(engine)


async def test_a_server_whose_engine_dies_says_so_and_is_there_again(tmp_path: Path) -> None:
    workshop = Workshop(token_seconds=0.02)
    with open_shop(tmp_path) as shop:

        async def start() -> Engine:
            await workshop.gate.wait()
            engine = EchoEngine(shop.base.base, max_rank=16, token_seconds=0.02)
            workshop.made.append(engine)
            return engine

        engine = SupervisedEngine(await start(), start)
        config = ServeConfig(base="echo", listen="127.0.0.1:0", slots=4, resident=4)
        async with (
            running(config, engine, shop.registry) as server,
            AsyncClient(server.address, retry=NEVER) as client,
        ):
            await client.generate("hi", adapter="acme/support")
            await server.pool.pin(server.pool.resident()[0])
            workshop.gate.clear()
            running_call = asyncio.create_task(client.generate("x" * 200, adapter="acme/support"))
            await asyncio.sleep(0.3)
            workshop.made[0].die()
            began = time.monotonic()
            with pytest.raises(Unavailable):
                await running_call
            assert time.monotonic() - began < 1
            ready = True
            async with asyncio.timeout(2):
                while ready:
                    ready = await asyncio.to_thread(is_ready, server.address)
            with pytest.raises(EngineUnavailable):
                await client.generate("hi")
            workshop.gate.set()
            async with asyncio.timeout(5):
                while not ready:
                    ready = await asyncio.to_thread(is_ready, server.address)
            assert str((await client.generate("hi", adapter="acme/support")).resolved) == "acme/support@v1"
            assert [each.pinned for each in server.pool.residency()] == [True]
        await engine.close()
