"""How everything here is measured: arms in turns within one run, medians with their spread, ratios by round.

Two cores that others use too drift by tens of percent within minutes. So every arm runs once a round,
the order turned each time, and a ratio is taken within a round before the median over the rounds.
"""

from __future__ import annotations

import contextlib
import gc
import os
import statistics
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psutil

Sample = Mapping[str, float]
"""What one run of one arm showed: metric -> value."""

Arm = Callable[[], Awaitable[Sample]]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and the range that it comes from."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        known = sorted(values)
        return cls(statistics.median(known), known[0], known[-1])

    def __str__(self) -> str:
        if self.low == self.high:
            return _short(self.median)
        return f"{_short(self.median)} [{_short(self.low)} to {_short(self.high)}]"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be: at least or at most `limit`."""

    limit: float
    at_least: bool

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"


def at_least(limit: float) -> Goal:
    return Goal(limit, at_least=True)


def at_most(limit: float) -> Goal:
    return Goal(limit, at_least=False)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. figures: arm -> what was seen, in `unit`. result: what the goal is about."""

    what: str
    figures: Mapping[str, Spread]
    unit: str
    result: Spread
    result_unit: str = "x"
    goal: Goal | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one benchmark, and when and under what load they were taken."""

    name: str
    title: str
    rows: Sequence[Row]
    setting: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    load: float = field(default_factory=lambda: os.getloadavg()[0])


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of every arm, round by round."""

    samples: Mapping[str, Sequence[Sample]]

    def spread(self, arm: str, metric: str) -> Spread:
        return Spread.of(sample[metric] for sample in self.samples[arm])

    def ratio(self, arm: str, peer: str, metric: str) -> Spread:
        """`arm` over `peer`, by round."""
        pairs = zip(self.samples[arm], self.samples[peer], strict=True)
        return Spread.of(mine[metric] / theirs[metric] for mine, theirs in pairs)

    def added(self, arm: str, peer: str, metric: str) -> Spread:
        """`arm` and `peer` one after the other, over `peer`, by round."""
        ratio = self.ratio(arm, peer, metric)
        return Spread(1 + ratio.median, 1 + ratio.low, 1 + ratio.high)

    def row(
        self,
        what: str,
        metric: str,
        unit: str,
        *,
        arm: str,
        peer: str,
        goal: Goal | None = None,
        note: str = "",
    ) -> Row:
        """A row about `arm` over `peer`."""
        figures = {name: self.spread(name, metric) for name in (arm, peer)}
        return Row(what, figures, unit, self.ratio(arm, peer, metric), goal=goal, note=note)


async def in_turns(arms: Mapping[str, Arm], rounds: int, *, warm_up: bool = True) -> Series:
    """Run every arm once a round, there and back again: A B C, C B A, A B C."""
    if warm_up:
        for run in arms.values():
            await run()
    samples: dict[str, list[Sample]] = {name: [] for name in arms}
    with _start_up_left_alone():
        for number in range(rounds):
            order = list(arms) if number % 2 == 0 else list(arms)[::-1]
            for name in order:
                samples[name].append(await arms[name]())
    return Series(samples)


@contextlib.contextmanager
def _start_up_left_alone() -> Iterator[None]:
    """Keep what is there out of garbage collection, as vLLM's server and ours do with what they are made of.

    An engine in this process leaves half a million objects, and to go through them takes 0.3 s: of whichever
    arm runs then.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def cpu_seconds(pid: int | None = None, *, apart: Iterable[int] = ()) -> float:
    """CPU time of a process (this one by default) and of every process under it, in seconds so far.

    apart: processes that do not count, nor what is under them.
    """
    seconds: dict[int, float] = {}
    for process in _family(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds[process.pid] = times.user + times.system
    # Only now: to look for them takes time, which would count.
    others = {each.pid for root in apart for each in _family(root)}
    return sum(spent for process, spent in seconds.items() if process not in others)


def resident_bytes(pid: int | None = None) -> int:
    """Memory of a process and of every process under it, what they share counted once (PSS)."""
    return sum(process.memory_full_info().pss for process in _family(pid))


def percentile(values: Iterable[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed (nearest rank)."""
    known = sorted(values)
    return known[min(len(known) - 1, round(percent / 100 * (len(known) - 1)))]


def _family(pid: int | None) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def _short(value: float) -> str:
    if value != value or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
