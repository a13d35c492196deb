"""Reads the ledger: how much was used, summed by what one wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hotshoe.adapter.errors import InvalidConfig, InvalidRequest
from hotshoe.serve.ledger import open_ledger

COLUMNS = ("day", "tenant", "adapter", "version")


@dataclass(frozen=True, slots=True)
class Used:
    """A sum. group: the values of the columns it was summed by, in their order."""

    group: tuple[str, ...]
    requests: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


def used(
    ledger: Path, by: Sequence[str], *, since: date | None = None, until: date | None = None
) -> list[Used]:
    """The sums by the columns `by` (of COLUMNS), in their order; days from `since` to `until`, both included.

    Raises InvalidRequest for another column, InvalidConfig if there is no such ledger.
    """
    if wrong := [column for column in by if column not in COLUMNS]:
        raise InvalidRequest(f"usage cannot be summed by {wrong[0]!r}: choose from {', '.join(COLUMNS)}")
    if not ledger.is_file():
        raise InvalidConfig(f"there is no ledger {ledger}: `hotshoe serve --ledger FILE` writes one")
    group = ", ".join(by)
    query = (
        f"SELECT {group + ', ' if by else ''} sum(requests), sum(failed), sum(prompt_tokens),"
        " sum(cached_tokens), sum(output_tokens) FROM usage WHERE day BETWEEN ? AND ?"
        + (f" GROUP BY {group} ORDER BY {group}" if by else " HAVING count(*) > 0")
    )
    days = (since or date.min).isoformat(), (until or date.max).isoformat()
    with open_ledger(ledger) as database:
        rows = database.execute(query, days).fetchall()
    return [Used(tuple(row[: len(by)]), *row[len(by) :]) for row in rows]
