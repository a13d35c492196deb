"""What the soak comes to: each promise with how it was kept."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from soak.asks import OK
from soak.judge import What
from soak.record import SWAPPED, TOLD, Record
from soak.watch import MIB, Watch

SERVER_GROWTH = 3.0
ENGINE_GROWTH = 3.0
"""MiB a minute at most, once everything was loaded once."""

SWAP_SECONDS = 2.0
TOLD_SECONDS = 1.0
"""Held to by the median: the machine may be busy with more than the soak."""


@dataclass(frozen=True, slots=True)
class Check:
    """A promise, whether it was kept, and what was seen."""

    promise: str
    kept: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Remains:
    """What was found once the load had ended and after the server was told to stop.

    leases: versions still leased. orphans: processes that outlived the server. unbooked: what callers got
    and the ledger lacks. Growth is in MiB a minute, None where the soak was too short to tell.
    """

    in_engine: int
    leases: Sequence[str]
    stuck: Sequence[str]
    exit_code: int
    orphans: Sequence[str]
    unbooked: Sequence[str]
    server_growth: float | None
    engine_growth: float | None


def judge_all(record: Record, remains: Remains) -> list[Check]:
    """Every promise of the soak."""
    by_what = Counter(fault.what for fault in record.faults)
    answered = sum(count for (_, outcome), count in record.outcomes.items() if outcome == OK)
    checks = [
        Check("requests were answered", answered > 0, f"{answered} of {record.requests}"),
        Check("no wrong answer", not by_what[What.WRONG], f"{by_what[What.WRONG]} of {record.tokens} tokens"),
        Check("no hang", not by_what[What.HANG], str(by_what[What.HANG])),
        Check("no unexpected error", not by_what[What.ERROR], str(by_what[What.ERROR])),
        Check("what was done had its effect", not by_what[What.CHAOS], str(by_what[What.CHAOS])),
        Check("nothing left in the engine", not remains.in_engine, str(remains.in_engine)),
        Check("no lease left", not remains.leases, ", ".join(remains.leases) or "none"),
        Check("no alias stuck", not remains.stuck, ", ".join(remains.stuck) or "none"),
        Check("the server ended well", remains.exit_code == 0, f"exit code {remains.exit_code}"),
        Check("no orphan", not remains.orphans, ", ".join(remains.orphans) or "none"),
        Check("the ledger has every token", not remains.unbooked, ", ".join(remains.unbooked) or "it has"),
    ]
    for promise, figure, most in (
        ("moves take effect", SWAPPED, SWAP_SECONDS),
        ("callers hear of a dead engine", TOLD, TOLD_SECONDS),
    ):
        if seconds := record.figures.get(figure):
            middle = statistics.median(seconds)
            seen = f"median {middle:.2f} s, longest {max(seconds):.2f} s of {len(seconds)}"
            checks.append(Check(f"{promise} within {most:g} s", middle <= most, seen))
    for who, growth, most in (
        ("server", remains.server_growth, SERVER_GROWTH),
        ("engine", remains.engine_growth, ENGINE_GROWTH),
    ):
        if growth is not None:
            promise = f"the {who}'s memory is flat (at most {most:g} MiB a minute)"
            checks.append(Check(promise, growth <= most, f"{growth:+.2f} MiB a minute"))
    return checks


def as_json(record: Record, watch: Watch, checks: Sequence[Check], **facts: object) -> Mapping[str, Any]:
    """The report for machines. memory: every ten seconds, [seconds, MiB of the server, of the engine]."""
    return {
        **facts,
        "kept": all(check.kept for check in checks),
        "checks": [asdict(check) for check in checks],
        "requests": record.requests,
        "tokens_compared": record.tokens,
        "outcomes": {
            f"{kind}: {outcome}": count for (kind, outcome), count in sorted(record.outcomes.items())
        },
        "done": dict(sorted(record.done.items())),
        "seconds": {name: summary(values) for name, values in record.figures.items()},
        "memory": [
            [round(each.at - record.began), each.server // MIB, each.engine // MIB]
            for each in watch.samples[::10]
        ],
        "faults": [f"{fault.what.value}: {fault.text}" for fault in record.faults],
    }


def summary(values: Sequence[float]) -> Mapping[str, float]:
    """How many, median, 95th percentile (nearest rank) and the most."""
    if not values:
        return {"count": 0}
    ordered = sorted(values)
    high = ordered[max(0, -(-95 * len(ordered) // 100) - 1)]
    return {"count": len(ordered), "p50": statistics.median(ordered), "p95": high, "most": ordered[-1]}
