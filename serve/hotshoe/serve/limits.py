"""Rates that hold on average and allow short bursts: a token bucket, without a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Bucket:
    """Holds up to `burst`, fills at `per_second`; what is taken may leave it in debt.

    level and at (seconds) say how full it was when. A debt is how a cost is charged that was not known
    before: whoever comes next waits until it is paid.
    """

    per_second: float
    burst: float
    level: float
    at: float

    @classmethod
    def full(cls, per_second: float, burst: float, now: float) -> Bucket:
        """A bucket that nobody has taken from yet."""
        return cls(per_second, burst, burst, now)

    def take(self, amount: float, now: float) -> Bucket:
        """The bucket after `amount` was taken, whatever it held."""
        return replace(self, level=self._level(now) - amount, at=max(now, self.at))

    def wait_seconds(self, amount: float, now: float) -> float:
        """How long until `amount` is there; 0 if it is. Never for ever: a full bucket is always enough."""
        missing = min(amount, self.burst) - self._level(now)
        return max(0.0, missing / self.per_second)

    def _level(self, now: float) -> float:
        # A clock that jumps back fills nothing and takes nothing away.
        return min(self.burst, self.level + max(0.0, now - self.at) * self.per_second)
