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

PROBE_SECONDS = 0.05
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
                await self._until_answered(line, before)
            line.settled()
            ended = time.monotonic()
            # Twice as far back: a new version that failed to load for now is tried again after a pause.
            if not self._record.conditions.engine_was_down(told - (ended - told), ended):
                self._record.measured(SWAPPED, ended - told)

    async def _until_answered(self, line: Line, before: tuple[Target, ...]) -> None:
        """Until a caller who was answered by another version before is answered by the right one."""
        after = line.now.targets
        sessions = (f"probe {number}" for number in range(PROBES))
        moved = (each for each in sessions if choose(before, each).version != choose(after, each).version)
        if (session := next(moved, None)) is None:
            return  # Other weights in the same proportion.
        wanted = choose(after, session).version.tag
        question = Tokens(self._world.oracle.questions[0])
        one_token = Sampling(temperature=0, max_tokens=1)
        async with AsyncClient(self._address, api_key=key_of(PROBE), retry=NEVER) as client:
            while True:
                try:
                    answer = await client.generate(
                        question,
                        adapter=f"{line.name}@{ALIAS}",
                        sampling=one_token,
                        session=session,
                        timeout_seconds=PATIENCE_SECONDS,
                    )
                except Unavailable:
                    pass  # The engine is away: that has its own judges.
                else:
                    if answer.resolved.version == wanted:
                        return
                await asyncio.sleep(PROBE_SECONDS)
