"""Which errors callers may see just now, because of what is being done to the server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

SLACK_SECONDS = 3.0
"""So long after its cause is gone an error may still be told: files are looked at twice a second."""

ENGINE_DOWN = frozenset({"ENGINE_UNAVAILABLE", "UNAVAILABLE"})


@dataclass(slots=True)
class Window:
    """From when to when (monotonic seconds) which errors are no surprise, for one tenant or for all ("")."""

    reasons: frozenset[str]
    tenant: str
    begins: float
    ends: float | None = None

    def covers(self, began: float, ended: float) -> bool:
        return ended >= self.begins and (self.ends is None or began <= self.ends)


@dataclass(slots=True)
class Conditions:
    """All windows so far."""

    windows: list[Window] = field(default_factory=list)

    @contextlib.contextmanager
    def expecting(self, reasons: frozenset[str], *, tenant: str = "") -> Iterator[Window]:
        """Calls that overlap the block may end with `reasons`."""
        window = Window(reasons, tenant, time.monotonic())
        self.windows.append(window)
        try:
            yield window
        finally:
            window.ends = time.monotonic() + SLACK_SECONDS

    def excuse(self, reason: str, tenant: str, began: float, ended: float) -> bool:
        """Whether a call that ended so is explained by what was done to the server meanwhile."""
        return any(
            reason in window.reasons and window.tenant in ("", tenant) and window.covers(began, ended)
            for window in self.windows
        )

    def seconds_after_death(self, began: float, ended: float) -> float | None:
        """How long after the engine was killed a call ended that was under way then; None for others."""
        deaths = [
            window.begins
            for window in self.windows
            if window.reasons == ENGINE_DOWN and began < window.begins <= ended
        ]
        return ended - deaths[-1] if deaths else None

    def engine_was_down(self, began: float, ended: float) -> bool:
        """Whether the engine was away at some time in between."""
        return self.excuse("ENGINE_UNAVAILABLE", "", began, ended)
