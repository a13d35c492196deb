"""Chaos around the server: its engine killed, its tenants file changed and broken, adapters moved by hand."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from soak.conditions import ENGINE_DOWN
from soak.judge import Fault, What
from soak.record import Record
from soak.watch import resident
from soak.world import NARROW, OPERATOR, TENANTS, World, key_of
from support.served import Server

from hotshoe.adapter.errors import HotshoeError, Refused, Unauthenticated, Unavailable
from hotshoe.client import AsyncClient
from hotshoe.client.admin import AdminClient
from hotshoe.client.health import is_ready
from hotshoe.client.retry import NEVER
from hotshoe.wire.values import Sampling, Tokens

BACK_SECONDS = 180.0
"""The longest that an engine may take to come back; imports of 13 CPU seconds on a machine that is busy."""

NOTICED_SECONDS = 10.0
ENGINE_SHARE = 0.8
"""Of the kills; the others hit a process that vLLM or Python keeps beside it."""

MODEL_BYTES = 400 << 20
"""A process that has more than this is one that holds a model; the one for structured output has 280 MiB."""

REREAD_SECONDS = 10.0
LOOK_SECONDS = 0.05

BROKEN_FILES = (
    "[tenants.acme",
    '[tenants.acme]\nkeys = ["not a hash"]',
    "[tenants.acme]\nweigth = 2",
    '[tenants.acme]\nadapters = ["no pattern"]',
    "tenants = 3",
)


class Mishaps:
    """What befalls a server from outside."""

    def __init__(self, server: Server, world: World, record: Record) -> None:
        self._server = server
        self._world = world
        self._record = record

    async def kill_engine(self, chance: random.Random) -> None:
        """kill -9 one of the server's processes; it is as before once the engine is there again."""
        processes = await asyncio.to_thread(self._server.children)
        engines = [each for each in processes if resident(each) > MODEL_BYTES]
        helpers = [each for each in processes if each not in engines]
        is_engine = bool(engines) and (not helpers or chance.random() < ENGINE_SHARE)
        victim = chance.choice(engines if is_engine else helpers)
        what = "kill -9 the engine" if is_engine else "kill -9 a helper process"
        with self._record.doing(what), self._record.conditions.expecting(ENGINE_DOWN):
            began = time.monotonic()
            victim.kill()
            if await self._is_noticed():
                async with asyncio.timeout(BACK_SECONDS):
                    while not await self._is_ready():
                        await asyncio.sleep(LOOK_SECONDS)
                self._record.measured("the engine came back", time.monotonic() - began)
            elif is_engine:
                self._record.fault(Fault(What.CHAOS, "the engine was killed and health stayed as it was"))

    async def _is_noticed(self) -> bool:
        until = time.monotonic() + NOTICED_SECONDS
        while time.monotonic() < until:
            if not await self._is_ready():
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _is_ready(self) -> bool:
        return await asyncio.to_thread(is_ready, self._server.address)

    async def change_tenants(self, chance: random.Random) -> None:
        """Other weights, a file that makes no sense, or one tenant gone for a while."""
        await chance.choice((self._other_weights, self._broken_file, self._one_less))(chance)

    async def _other_weights(self, chance: random.Random) -> None:
        with self._record.doing("other weights for tenants"):
            self._world.write_tenants(weights={each: chance.uniform(0.5, 4) for each in TENANTS})

    async def _broken_file(self, chance: random.Random) -> None:
        """Nobody must notice: the load goes on and is judged as ever."""
        with self._record.doing("a tenants file that makes no sense"):
            self._world.write_tenants(text=chance.choice(BROKEN_FILES))
            await asyncio.sleep(chance.uniform(1, 3))
            self._world.write_tenants()

    async def _one_less(self, chance: random.Random) -> None:
        expecting = self._record.conditions.expecting
        with (
            self._record.doing("a tenant taken out of the file"),
            expecting(frozenset({"UNAUTHENTICATED"}), tenant=NARROW),
        ):
            self._world.write_tenants(without=NARROW)
            try:
                await self._until_known(NARROW, known=False)
            finally:
                self._world.write_tenants()
            await self._until_known(NARROW, known=True)

    async def _until_known(self, tenant: str, *, known: bool) -> None:
        async with (
            asyncio.timeout(REREAD_SECONDS),
            AsyncClient(self._server.address, api_key=key_of(tenant), retry=NEVER) as client,
        ):
            while await _knows(client) is not known:
                await asyncio.sleep(LOOK_SECONDS)

    async def operate(self, chance: random.Random) -> None:
        """Warm, pin for a while, or evict a version by hand."""
        line = chance.choice(list(self._world.lines.values()))
        version = str(chance.choice(list(line.versions.values())))
        what = chance.choice(("warm", "evict", "pin"))
        with self._record.doing(f"{what} a version"):
            if what == "warm":
                await self._ordered(lambda admin: list(admin.warm(version)))
            elif what == "evict":
                await self._ordered(lambda admin: admin.evict(version))
            else:
                await self._ordered(lambda admin: admin.pin(version))
                await asyncio.sleep(chance.uniform(1, 5))
                await self._ordered(lambda admin: admin.unpin(version))

    async def _ordered(self, order: Callable[[AdminClient], object]) -> None:
        def give() -> None:
            with AdminClient(self._server.address, api_key=key_of(OPERATOR)) as admin:
                order(admin)

        began = time.monotonic()
        try:
            await asyncio.to_thread(give)
        except Refused:
            pass  # In use, or no place: what it says is the answer.
        except Unavailable:
            if not self._record.conditions.engine_was_down(began, time.monotonic()):
                raise


async def _knows(client: AsyncClient) -> bool:
    try:
        await client.generate(Tokens((5,)), sampling=Sampling(temperature=0, max_tokens=1))
    except Unauthenticated:
        return False
    except HotshoeError:
        pass  # Whatever it is told, it was recognized first.
    return True
