"""Runs many answers at once and keeps when each of their tokens came."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.harness import percentile

Answer = AsyncGenerator[int, None]
"""One answer: the number of new tokens in each of its pieces."""


@dataclass(slots=True)
class Trace:
    """One answer: when it was asked for, and when how many tokens came (seconds, monotonic)."""

    asked: float
    arrivals: list[tuple[float, int]] = field(default_factory=list)

    @property
    def first(self) -> float:
        return self.arrivals[0][0]

    @property
    def last(self) -> float:
        return self.arrivals[-1][0]

    @property
    def tokens(self) -> int:
        return sum(count for _, count in self.arrivals)

    def longest_gap(self, since: float, until: float) -> float:
        """The longest time between two pieces of which one at least came between `since` and `until`."""
        times = [when for when, _ in self.arrivals]
        pairs = itertools.pairwise(times)
        return max((b - a for a, b in pairs if b >= since and a <= until), default=0.0)


async def follow(answer: Answer, trace: Trace | None = None) -> Trace:
    """Read an answer to its end, into `trace` if given."""
    trace = trace or Trace(asked=time.monotonic())
    async for tokens in answer:
        if tokens:
            trace.arrivals.append((time.monotonic(), tokens))
    return trace


async def at_once(start: Callable[[int], Answer], count: int) -> list[Trace]:
    """Ask for `count` answers at the same moment and read all of them."""
    return await asyncio.gather(*(follow(start(number)) for number in range(count)))


def throughput(traces: Sequence[Trace]) -> float:
    """Tokens a second, from the first question to the last token."""
    span = max(trace.last for trace in traces) - min(trace.asked for trace in traces)
    return sum(trace.tokens for trace in traces) / span


def decode_rate(traces: Sequence[Trace]) -> float:
    """Tokens a second while every answer is under way: no prefill, no stragglers."""
    since = max(trace.first for trace in traces)
    until = min(trace.last for trace in traces)
    within = ([piece for piece in trace.arrivals if since <= piece[0] <= until] for trace in traces)
    return sum(map(_rate, within))


def _rate(arrivals: Sequence[tuple[float, int]]) -> float:
    """Tokens a second after the first of these."""
    if len(arrivals) < 2:
        return 0.0
    return sum(count for _, count in arrivals[1:]) / (arrivals[-1][0] - arrivals[0][0])


def first_token_ms(traces: Sequence[Trace], percent: float = 50) -> float:
    waits = [(trace.first - trace.asked) * 1000 for trace in traces]
    return statistics.median(waits) if percent == 50 else percentile(waits, percent)
