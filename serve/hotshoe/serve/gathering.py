"""Requests that come at nearly the same moment enter the engine together.

A step for a few answers costs nearly as much as a step for many, and while a crowd arrives one by one the
engine would run many small steps, on cores that those who are still on their way need too.
docs/benchmarks.md has what that is worth.
"""

from __future__ import annotations

import asyncio

FEW = 64
"""Beside fewer open streams nobody waits for anybody.

With 16, requests that came one by one, 60 a second, waited for company that did not come: their first token
took 48 ms instead of 39 (docs/benchmarks.md).
"""

QUIET_SECONDS = 0.005
LONGEST_SECONDS = 0.05
"""Who comes into a crowd waits until nobody else has come for the one, and at most the other."""

_CLOCK_SECONDS = 0.001
"""How fine a loop's clock may be: uvloop's is no finer."""


class Gathering:
    """Lets the requests of one engine in. Belongs to one event loop."""

    def __init__(
        self,
        few: int = FEW,
        quiet_seconds: float = QUIET_SECONDS,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        self._few = few
        self._quiet_seconds = quiet_seconds
        self._longest_seconds = longest_seconds
        self._first_at = 0.0
        self._last_at = 0.0
        self._here: list[asyncio.Future[None]] = []

    async def join(self, streams: int) -> None:
        """Return when it is time to enter the engine, beside so many open streams."""
        if streams < self._few:
            self._let_in()
            return
        loop = asyncio.get_running_loop()
        self._last_at = loop.time()
        if not self._here:
            self._first_at = self._last_at
            loop.call_at(self._due, self._look, loop)
        turn: asyncio.Future[None] = loop.create_future()
        self._here.append(turn)
        await turn

    @property
    def _due(self) -> float:
        return due(self._first_at, self._last_at, quiet=self._quiet_seconds, longest=self._longest_seconds)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._here and loop.time() < self._due - _CLOCK_SECONDS:
            loop.call_at(self._due, self._look, loop)
        else:
            self._let_in()

    def _let_in(self) -> None:
        for turn in self._here:
            if not turn.done():  # Cancelled meanwhile.
                turn.set_result(None)
        self._here.clear()


def due(first_at: float, last_at: float, *, quiet: float, longest: float) -> float:
    """When a crowd is let in whose first came at `first_at` and whose last so far at `last_at`; seconds."""
    return min(last_at + quiet, first_at + longest)
