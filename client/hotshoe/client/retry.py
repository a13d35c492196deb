"""When a call is worth another try: what was refused for now, while the deadline allows, and not for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from hotshoe.adapter.errors import EngineUnavailable, Exhausted, HotshoeError, InvalidConfig, Unavailable

GROWTH = 2.0


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently. attempts: calls at most, the first one included; 1 never tries again.

    first_seconds, longest_seconds: of the pause between two, which doubles each time; half of it is
    chance, so that clients refused together do not come back together. A server that says when to come
    back is heard, if that is not longer than `longest_seconds`.
    """

    attempts: int = 4
    first_seconds: float = 0.2
    longest_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_seconds <= self.longest_seconds:
            raise InvalidConfig("a retry needs 1 attempt or more, and pauses of 0 s or more that grow")

    def pause_seconds(self, failed: int, error: HotshoeError, chance: float) -> float | None:
        """How long to wait after the `failed`th attempt; None: do not try again. chance: from 0 to 1.

        Only what the server did not begin with is worth another try: it is out of reach, or full.
        """
        if failed >= self.attempts or not isinstance(error, Unavailable | Exhausted):
            return None
        if isinstance(error, EngineUnavailable) and error.begun:
            return None
        longest = min(self.first_seconds * GROWTH ** (failed - 1), self.longest_seconds)
        pause = longest * (1 + chance) / 2
        if not isinstance(error, Exhausted):
            return pause
        if error.retry_seconds > self.longest_seconds:
            return None
        return max(pause, error.retry_seconds * (1 + chance / 2))


NEVER = Retry(attempts=1)


class Attempts:
    """One call's attempts. seconds: until its deadline; None is without end."""

    def __init__(
        self,
        retry: Retry,
        seconds: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._retry = retry
        self._clock = clock
        self._chance = chance
        self._ends = None if seconds is None else clock() + seconds
        self._failed = 0

    @property
    def seconds_left(self) -> float | None:
        """Until the deadline; None is without end."""
        return None if self._ends is None else max(0.0, self._ends - self._clock())

    def pause_seconds(self, error: HotshoeError) -> float | None:
        """How long to wait before the next attempt; None: raise `error`."""
        self._failed += 1
        pause = self._retry.pause_seconds(self._failed, error, self._chance())
        left = self.seconds_left
        if pause is None or (left is not None and pause >= left):
            return None
        return pause
