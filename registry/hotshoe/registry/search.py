"""Finding adapters: by organisation, base, tag, alias, metric. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.registry.values import AdapterSummary

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_METRIC = re.compile(r"([^<>=]+?)\s*(>=|<=|>|<|=)\s*(-?[0-9.]+(?:[eE][+-]?[0-9]+)?)")


@dataclass(frozen=True, slots=True)
class MetricTest:
    """A bound on a held-out metric of the newest version: `exact>=0.9`."""

    name: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> MetricTest:
        match = _METRIC.fullmatch(text.strip())
        try:
            if match:
                return cls(match[1].strip(), match[2], float(match[3]))
        except ValueError:
            pass
        raise InvalidRequest(
            f"{text!r} is no test of a metric: write it like exact>=0.9, with >=, <=, >, < or ="
        )

    def holds(self, summary: AdapterSummary) -> bool:
        """An adapter that lacks the metric does not pass."""
        value = summary.metrics.get(self.name)
        return value is not None and _COMPARE[self.comparison](value, self.bound)


@dataclass(frozen=True, slots=True)
class Query:
    """What an adapter must have to be found; None asks for nothing. base: part of the base's name."""

    org: str | None = None
    base: str | None = None
    tag: str | None = None
    alias: str | None = None
    metric: MetricTest | None = None

    def matches(self, summary: AdapterSummary) -> bool:
        return (
            self.org in (None, summary.adapter.org)
            and (self.base is None or self.base.casefold() in summary.base.casefold())
            and (self.tag is None or self.tag in summary.tags)
            and (self.alias is None or self.alias in summary.aliases)
            and (self.metric is None or self.metric.holds(summary))
        )


def search(summaries: Iterable[AdapterSummary], query: Query) -> list[AdapterSummary]:
    """The adapters that match, in the order they came."""
    return [summary for summary in summaries if query.matches(summary)]
