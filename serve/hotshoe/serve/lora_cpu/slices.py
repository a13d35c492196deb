"""How much of the time between two of the engine's steps loads may take, all of them together."""

from __future__ import annotations

SLICE_SECONDS = 0.004
"""Between two steps."""

SLICE_SHARE = 0.05
"""Or so much of what passes between two slices, which is a step at least: a long one can spare more."""

LONGEST_SLICE_SECONDS = 0.015

IDLE_SLICE_SECONDS = 0.05
"""While nobody's stream waits; a request that comes in the meantime does."""

PAUSE_SECONDS = 0.001
"""What goes on sooner after a slice than this is part of it: no step takes less."""


def slice_seconds(step: float, *, idle: bool) -> float:
    """How long a slice may take. step: seconds since the one before it, 0 where there was none."""
    return IDLE_SLICE_SECONDS if idle else min(max(SLICE_SECONDS, SLICE_SHARE * step), LONGEST_SLICE_SECONDS)


class Slices:
    """Shares a slice out to the loads that go on between the same two steps: the first takes what it needs.

    All times are seconds on one clock that never goes back.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._ended_at = 0.0

    def begin(self, now: float, *, waited: bool, idle: bool) -> float:
        """When a load that wants to go on now has to pause; not after `now` where nothing is left for it.

        waited: some load has waited for this slice since the last one. idle: nobody's stream waits.
        """
        pause = now - self._ended_at
        if pause >= PAUSE_SECONDS:
            # Only a load that waited tells how long a step takes.
            self._until = now + slice_seconds(pause if waited else 0.0, idle=idle)
        return self._until

    def end(self, now: float) -> None:
        """A load pauses, or is done."""
        self._ended_at = now
