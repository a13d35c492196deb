"""A pool over an engine and a shelf that write down what they are asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from support.recorder import Recorder, Shelves
from support.waiting import eventually

from hotshoe.adapter.version import Version
from hotshoe.serve.failures import Failures
from hotshoe.serve.pool import AdapterPool


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def make(capacity: int = 2) -> AsyncIterator[tuple[AdapterPool, Recorder, Shelves, Clock]]:
    engine, shelves, clock = Recorder(), Shelves(), Clock()
    pool = AdapterPool(engine, shelves, capacity=capacity, failures=Failures(clock))
    try:
        yield pool, engine, shelves, clock
    finally:
        engine.gate.set()
        shelves.gate.set()
        await pool.close()
        await eventually(lambda: not shelves.still_out())  # Threads under way give back what they got.


async def use(pool: AdapterPool, wanted: Version, until: asyncio.Event | None = None) -> int:
    async with pool.lease(wanted) as lease:
        if until is not None:
            await until.wait()
        return lease.adapter.id
