"""What `hotshoe top` shows: two looks at a server, and what happened between them."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hotshoe.cli.verb import printable
from hotshoe.wire.admin import ServerStatus, Share

MIB = 1 << 20

ROWS = 12
"""Tenants and adapters shown, those with the most tokens a second first."""


def view(before: ServerStatus, now: ServerStatus, seconds: float) -> RenderableType:
    """The server as it is `now`; rates are over the `seconds` since `before`."""
    return Group(
        _headline(before, now, seconds),
        _places(now),
        *(
            [Text(f"the tenants file is not taken: {printable(now.tenants_fault)}", style="red")]
            if now.tenants_fault
            else []
        ),
        *(
            Text(f"{each.alias} is stuck: {each.reason}: {printable(each.message)}", style="red")
            for each in now.stuck
        ),
        _shares("tenant", before.tenants, now.tenants, seconds),
        _shares("adapter", before.used_adapters, now.used_adapters, seconds),
    )


def _headline(before: ServerStatus, now: ServerStatus, seconds: float) -> Text:
    rate = (_output(now) - _output(before)) / seconds
    state = "draining" if now.draining else "serving" if now.serving else "the engine does not answer"
    line = Text(f"{now.base.repo}  ")
    line.append(state, style="green" if now.serving else "red")
    line.append(f"  {rate:,.1f} tokens/s  {now.running} running  {now.waiting} waiting")
    line.append(f"  aliases {now.alias_age_seconds:.1f} s old", style="dim")
    return line


def _places(now: ServerStatus) -> Table:
    full = now.adapters
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=max(1, full.capacity_bytes), completed=full.bytes, width=40)
    memory = f"{full.bytes / MIB:,.1f} of {full.capacity_bytes / MIB:,.0f} MiB"
    # Never more than there are slots: an adapter gets its requests only with a slot.
    slots = f"{full.leased} of {full.slots} slots in use"
    said = f"{full.loaded} adapters loaded, {memory}, {slots}, {full.loading} loading"
    grid.add_row(bar, said)
    return grid


def _shares(title: str, before: tuple[Share, ...], now: tuple[Share, ...], seconds: float) -> Table:
    old = {each.name: each for each in before}
    table = Table(show_edge=False, pad_edge=False)
    table.add_column(title, min_width=24, overflow="ellipsis")
    for column in ("tokens/s", "requests/s", "running", "requests", "failed", "first token"):
        table.add_column(column, justify="right")
    rows = sorted(
        ((_rate(old.get(each.name), each, seconds), each) for each in now),
        key=lambda row: (-row[0][0], -row[1].running, row[1].name),
    )
    for (tokens, requests), each in rows[:ROWS]:
        table.add_row(
            escape(printable(each.name or "-")),
            f"{tokens:,.1f}",
            f"{requests:,.2f}",
            str(each.running),
            f"{each.requests:,}",
            f"{each.failed:,}",
            f"{each.first_token_ms:,.0f} ms",
        )
    if len(rows) > ROWS:
        table.caption = f"and {len(rows) - ROWS} more"
    return table


def _rate(before: Share | None, now: Share, seconds: float) -> tuple[float, float]:
    """Tokens and requests a second."""
    tokens = now.output_tokens - (before.output_tokens if before else 0)
    requests = now.requests - (before.requests if before else 0)
    return tokens / seconds, requests / seconds


def _output(status: ServerStatus) -> int:
    return sum(each.output_tokens for each in status.tenants)
