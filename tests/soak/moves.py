"""Chaos in the registry: versions published, aliases promoted, split and rolled back, one after the other."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from soak.asks import PATIENCE_SECONDS
from soak.record import SWAPPED, Record
from soak.world import ALIAS, PROBE, Line, World, key_of

from hotshoe.adapter.errors import Refused, Unavailable
from hotshoe.adapter.version import Version
from hotshoe.client import AsyncClient
from hotshoe.client.retry import NEVER
from hotshoe.registry import Move, Target
from hotshoe.registry.aliases import choose
from hotshoe.wire.values import Sampling, Tokens

SETTLED_SECONDS = 120.0
"""The longest that a move may take effect: the engine may have to come back first, and loads are retried."""

PROBE_SECONDS = 0.1
PROBES_AT_ONCE = 16
PROBES = 10_000


class Moves:
    """Moves the aliases of the lines that are served."""

    def __init__(self, address: str, world: World, record: Record) -> None:
        self._address = address
        self._world = world
        self._record = record

    async def one(self, chance: random.Random) -> None:
        """One move by chance, and wait until it took effect."""
        line = chance.choice(list(self._world.lines.values()))
        what = chance.choice((self._publish, self._promote, self._split, self._roll_back))
        await what(line, chance)

    async def _publish(self, line: Line, chance: random.Random) -> None:
        with self._record.doing("publish and promote"):
            version = await asyncio.to_thread(self._world.publish, line.name)
            if version is not None:
                await self._move(line, lambda: self._promoted(line, version))

    async def _promote(self, line: Line, chance: random.Random) -> None:
        with self._record.doing("promote"):
            version = chance.choice(list(line.versions.values()))
            await self._move(line, lambda: self._promoted(line, version))

    async def _split(self, line: Line, chance: random.Random) -> None:
        with self._record.doing("split"):
            numbers = chance.sample([each.number for each in line.versions.values()], 2)
            weights = {number: chance.randint(1, 9) for number in numbers}
            split = self._world.registry.split
            await self._move(line, lambda: split(line.name, ALIAS, weights, actor="soak", reason="canary"))

    async def _roll_back(self, line: Line, chance: random.Random) -> None:
        with self._record.doing("roll back"):
            rollback = self._world.registry.rollback
            try:
                await self._move(line, lambda: rollback(line.name, ALIAS, actor="soak", reason="soak"))
            except Refused:
                self._record.say("there was nothing to roll back to")

    def _promoted(self, line: Line, version: Version) -> Move:
        return self._world.registry.promote(line.name, ALIAS, version.number, actor="soak", reason="soak")

    async def _move(self, line: Line, act: Callable[[], Move]) -> None:
        before, began = line.now.targets, time.monotonic()
        async with line.moving:
            line.points_to((await asyncio.to_thread(act)).to, began)
        if line.now.targets != before:
            told = time.monotonic()
            async with asyncio.timeout(SETTLED_SECONDS):
                asked = await self._until_answered(line, before)
            line.settled()
            ended = time.monotonic()
            # Twice as far back: a new version that failed to load for now is tried again after a pause.
            if not self._record.conditions.engine_was_down(told - (ended - told), ended):
                self._record.measured(SWAPPED, (asked or ended) - told)

    async def _until_answered(self, line: Line, before: tuple[Target, ...]) -> float | None:
        """When somebody asked who had been answered by another version before and is by the right one now.

        Not when the answer came: it may have waited in line for others, which says nothing of the move. So
        the next one asks before the last one is answered. None where the move changes nobody's version.
        """
        after = line.now.targets
        sessions = (f"probe {number}" for number in range(PROBES))
        moved = (each for each in sessions if choose(before, each).version != choose(after, each).version)
        if (session := next(moved, None)) is None:
            return None  # Other weights in the same proportion.
        wanted = choose(after, session).version.tag
        asking: set[asyncio.Task[float | None]] = set()
        async with AsyncClient(self._address, api_key=key_of(PROBE), retry=NEVER) as client:
            try:
                while True:
                    if len(asking) < PROBES_AT_ONCE:
                        asking.add(asyncio.create_task(self._probe(client, line, session, wanted)))
                    await asyncio.sleep(PROBE_SECONDS)
                    answered = {each for each in asking if each.done()}
                    asking -= answered
                    times = [asked for each in answered if (asked := each.result()) is not None]
                    if times:
                        return min(times)
            finally:
                for each in asking:
                    each.cancel()
                await asyncio.gather(*asking, return_exceptions=True)

    async def _probe(self, client: AsyncClient, line: Line, session: str, wanted: str) -> float | None:
        """When it was asked, if it is answered by the wanted version."""
        asked = time.monotonic()
        try:
            answer = await client.generate(
                Tokens(self._world.oracle.questions[0]),
                adapter=f"{line.name}@{ALIAS}",
                sampling=Sampling(temperature=0, max_tokens=1),
                session=session,
                timeout_seconds=PATIENCE_SECONDS,
            )
        except Unavailable:
            return None  # The engine is away: that has its own judges.
        return asked if answer.resolved.version == wanted else None
