"""The verb that reads the books: usage."""

from __future__ import annotations

import csv
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.adapter.errors import InvalidConfig, InvalidRequest
from hotshoe.cli.verb import JsonOption, LedgerOption, print_json, print_table, verb

if TYPE_CHECKING:
    from hotshoe.serve.usage import Used

SUMS = ("requests", "failed", "prompt_tokens", "cached_tokens", "output_tokens")


def _day(flag: str, text: str) -> Any:
    return typer.Option(flag, metavar="YYYY-MM-DD", formats=["%Y-%m-%d"], help=text)


@verb
def usage(
    by: Annotated[
        str,
        typer.Option("--by", metavar="COLUMNS", help="Sum by these: tenant, adapter, version, day."),
    ] = "tenant,adapter",
    since: Annotated[datetime | None, _day("--since", "The first day (UTC).")] = None,
    until: Annotated[datetime | None, _day("--until", "The last day (UTC).")] = None,
    ledger: LedgerOption = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Sum what `hotshoe serve --ledger FILE` wrote down: requests and tokens."""
    from hotshoe.serve.usage import used

    if ledger is None:
        raise InvalidConfig("name the ledger: --ledger FILE, or set HOTSHOE_LEDGER")
    if as_csv and as_json:
        raise InvalidRequest("--csv and --json exclude each other: choose one")
    columns = [column.strip() for column in by.split(",") if column.strip()]
    sums = used(ledger, columns, since=since.date() if since else None, until=until.date() if until else None)
    rows = [(*each.group, *_numbers(each)) for each in sums]
    names = (*columns, *SUMS)
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([names, *rows])
    else:
        shown = [name.replace("_", " ") for name in names]
        cells = [[*each.group, *(f"{number:,}" for number in _numbers(each))] for each in sums]
        print_table(f"usage by {by}", shown, cells)


def _numbers(each: Used) -> tuple[int, ...]:
    return tuple(getattr(each, name) for name in SUMS)
