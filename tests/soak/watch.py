"""Looks at the server's processes while it is soaked: how much memory they take, and who they are."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil
from support.processes import runs

SAMPLE_SECONDS = 1.0
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sample:
    """Resident bytes at a time (monotonic). engine: those of the largest process under the server, if any."""

    at: float
    server: int
    engine: int
    engine_pid: int


@dataclass(slots=True)
class Watch:
    """samples: one a second. family: every process that was ever seen under the server."""

    server: psutil.Process
    samples: list[Sample] = field(default_factory=list)
    family: set[psutil.Process] = field(default_factory=set)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(SAMPLE_SECONDS)

    def look(self) -> None:
        try:
            children = self.server.children(recursive=True)
            own = self.server.memory_info().rss
        except psutil.NoSuchProcess:
            return
        self.family.update(children)
        engine, pid = max(((resident(each), each.pid) for each in children), default=(0, 0))
        self.samples.append(Sample(time.monotonic(), own, engine, pid))

    def server_growth(self, since: float) -> float:
        """MiB a minute that the server grew by, from `since` on."""
        return growth([(each.at, each.server) for each in self.samples if each.at >= since])

    def engine_growth(self, since: float) -> float:
        """MiB a minute that the engine of the last sample grew by, from `since` on."""
        last = self.samples[-1].engine_pid
        return growth(
            [(each.at, each.engine) for each in self.samples if each.at >= since and each.engine_pid == last]
        )

    def left_behind(self, seconds: float) -> list[psutil.Process]:
        """Those of the family that are still there after waiting `seconds` for their end."""
        _, alive = psutil.wait_procs(list(self.family), timeout=seconds)
        return [each for each in alive if runs(each)]


def growth(points: Sequence[tuple[float, int]]) -> float:
    """The slope of bytes over seconds by least squares, in MiB a minute; 0 for fewer than 3 points."""
    if len(points) < 3:
        return 0.0
    times, sizes = zip(*points, strict=True)
    return statistics.linear_regression(times, sizes).slope * 60 / MIB


def resident(process: psutil.Process) -> int:
    """Its bytes in memory; 0 if it is gone."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
