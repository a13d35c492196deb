"""What a version must reach before it may be promoted: conditions on its held-out figures.

    fields >= 0.9
    fields >= base + 0.05
    loss <= parent
    forgetting <= 0.2

Gates are judged once, at the end of the run; their results stand in the manifest.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FIGURES = ("ended", "preferred", "reward", "loss", "perplexity", "forgetting", "general_loss")
"""What is measured of every adapter, whatever its metrics are."""

_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_GATE = re.compile(
    r"(?P<metric>[a-z_][a-z0-9_]*)\s*(?P<compare>>=|<=|>|<)\s*"
    r"(?:(?P<reference>base|parent)\s*(?:(?P<sign>[+-])\s*(?P<offset>\d+\.?\d*))?|(?P<number>-?\d+\.?\d*))"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: the adapter's `metric` against a number, or against base or parent with an offset."""

    metric: str
    compare: str
    reference: str | None
    offset: float

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read a condition; raise ValueError for anything else."""
        found = _GATE.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"gates: {text!r} is none; write one like 'f1 >= base + 0.05'")
        offset = float(found["number"] or found["offset"] or 0)
        return cls(
            metric=found["metric"],
            compare=found["compare"],
            reference=found["reference"],
            offset=-offset if found["sign"] == "-" else offset,
        )

    def judge(self, figures: Mapping[str, Mapping[str, float]]) -> GateResult:
        """Judge by the figures of `adapter` and of `base` or `parent`; what is missing fails."""
        value = figures["adapter"].get(self.metric, math.nan)
        of = 0.0 if self.reference is None else figures.get(self.reference, {}).get(self.metric, math.nan)
        limit = of + self.offset
        return GateResult(str(self), value, limit, bool(_COMPARE[self.compare](value, limit)))

    def __str__(self) -> str:
        if self.reference is None:
            return f"{self.metric} {self.compare} {self.offset:g}"
        offset = f" {'+' if self.offset > 0 else '-'} {abs(self.offset):g}" if self.offset else ""
        return f"{self.metric} {self.compare} {self.reference}{offset}"


@dataclass(frozen=True, slots=True)
class GateResult:
    """A judged gate: the adapter's value, the limit that it was held against, and whether it passed."""

    gate: str
    value: float
    limit: float
    passed: bool

    def facts(self) -> dict[str, Any]:
        """For the manifest, whose numbers are finite: one that was not measured is null."""
        numbers = {"value": self.value, "limit": self.limit}
        known = {name: number if math.isfinite(number) else None for name, number in numbers.items()}
        return {"gate": self.gate, **known, "passed": self.passed}


def judge_all(gates: Sequence[Gate], figures: Mapping[str, Mapping[str, float]]) -> tuple[GateResult, ...]:
    return tuple(gate.judge(figures) for gate in gates)
