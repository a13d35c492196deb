"""Requests that come at nearly the same moment enter the engine together.

A step for a few answers costs nearly as much as a step for many, and while a crowd arrives one by one the
engine would run many small steps, on cores that those who are still on their way need too.
docs/benchmarks.md has what that is worth.
"""

from __future__ import annotations

import asyncio

FEW = 16
"""Up to so many requests in the engine, nobody waits for anybody: whoever comes first gets it going."""

QUIET_SECONDS = 0.005
LONGEST_SECONDS = 0.05
"""Who comes into a crowd waits until nobody else has come for the one, and at most the other."""


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
        self._first = 0.0
        self._last = 0.0
        self._here: list[asyncio.Future[None]] = []

    async def join(self, others: int) -> None:
        """Return when it is time to enter an engine in which there are so many others."""
        if others < self._few:
            return
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        if not self._here:
            self._first = self._last
            loop.call_at(self._over, self._look, loop)
        turn: asyncio.Future[None] = loop.create_future()
        self._here.append(turn)
        await turn

    @property
    def _over(self) -> float:
        return min(self._last + self._quiet_seconds, self._first + self._longest_seconds)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop.time() < self._over:
            loop.call_at(self._over, self._look, loop)
            return
        for turn in self._here:
            if not turn.done():  # Cancelled meanwhile.
                turn.set_result(None)
        self._here.clear()
