"""What a load came to, as callers felt it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

PERCENTILES = (50, 90, 95, 99)


@dataclass(slots=True)
class Sample:
    """One request. Times are seconds; gaps lie between pieces of output. outcome: OK or a reason."""

    adapter: str
    outcome: str = "OK"
    first_token: float | None = None
    gaps: list[float] = field(default_factory=list)
    seconds: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    load_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Of a measure, in seconds: mean, each of PERCENTILES, the most; all 0 if nothing was measured."""

    count: int
    mean: float
    percentiles: tuple[float, ...]
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Percentiles by nearest rank."""
        if not values:
            return cls(0, 0.0, (0.0,) * len(PERCENTILES), 0.0)
        ordered = sorted(values)
        ranks = (max(0, -(-each * len(ordered) // 100) - 1) for each in PERCENTILES)
        mean = sum(ordered) / len(ordered)
        return cls(len(ordered), mean, tuple(ordered[rank] for rank in ranks), ordered[-1])


@dataclass(frozen=True, slots=True)
class Report:
    """What a load came to. seconds: from the first request to the end of the last."""

    seconds: float
    outcomes: Counter[str]
    adapters: Counter[str]
    prompt_tokens: int
    output_tokens: int
    first_token: Spread
    between_tokens: Spread
    whole: Spread

    @classmethod
    def of(cls, samples: Sequence[Sample], seconds: float) -> Report:
        """Times are of requests that were answered, counts of all."""
        answered = [each for each in samples if each.outcome == "OK"]
        return cls(
            seconds,
            outcomes=Counter(each.outcome for each in samples),
            adapters=Counter(each.adapter for each in samples),
            prompt_tokens=sum(each.prompt_tokens for each in answered),
            output_tokens=sum(each.output_tokens for each in samples),
            first_token=Spread.of([each.first_token for each in answered if each.first_token is not None]),
            between_tokens=Spread.of([gap for each in answered for gap in each.gaps]),
            whole=Spread.of([each.seconds for each in answered]),
        )
