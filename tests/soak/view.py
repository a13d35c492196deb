"""Shows a soak to whoever watches: live on a terminal, a line now and then elsewhere; a table at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from soak.record import Record
from soak.verdict import Check, summary
from soak.watch import MIB, Watch

LIVE_SECONDS = 0.5
LINE_SECONDS = 20.0
SHOWN_FAULTS = 20


@contextlib.asynccontextmanager
async def shown(record: Record, watch: Watch, seconds: float, console: Console) -> AsyncIterator[None]:
    """Show how it goes until the block ends."""
    show = _live if console.is_terminal else _lines
    task = asyncio.create_task(show(record, watch, seconds, console))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _live(record: Record, watch: Watch, seconds: float, console: Console) -> None:
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        while True:
            live.update(Group(Text(_line(record, watch, seconds)), Text("\n".join(record.newest), "dim")))
            await asyncio.sleep(LIVE_SECONDS)


async def _lines(record: Record, watch: Watch, seconds: float, console: Console) -> None:
    while True:
        await asyncio.sleep(LINE_SECONDS)
        console.print(_line(record, watch, seconds), highlight=False)


def _line(record: Record, watch: Watch, seconds: float) -> str:
    elapsed = time.monotonic() - record.began
    last = watch.samples[-1] if watch.samples else None
    memory = f"server {last.server // MIB} MiB, engine {last.engine // MIB} MiB" if last else ""
    return (
        f"{elapsed:5.0f} of {seconds:.0f} s  {record.requests} requests, {record.tokens} tokens compared, "
        f"{sum(record.done.values())} things done to it, {len(record.faults)} faults  {memory}"
    )


def show_result(record: Record, checks: Sequence[Check], console: Console) -> None:
    """The tables at the end."""
    promises = Table("promise", "", "seen", title="What was promised", title_justify="left")
    for check in checks:
        word, style = ("kept", "green") if check.kept else ("BROKEN", "bold red")
        promises.add_row(check.promise, word, check.seen, style=style)
    console.print(promises)
    outcomes = Table("request", "ended with", "times", title="Requests", title_justify="left")
    for (kind, outcome), times in sorted(record.outcomes.items()):
        outcomes.add_row(kind, outcome, str(times))
    console.print(outcomes)
    done = Table("done to the server", "times", title="Chaos", title_justify="left")
    for what, times in sorted(record.done.items()):
        done.add_row(what, str(times))
    console.print(done)
    times_table = Table("what", "count", "p50", "p95", "most", title="Seconds", title_justify="left")
    for name, values in record.figures.items():
        seen = summary(values)
        cells = [f"{seen[each]:.3f}" if each in seen else "" for each in ("p50", "p95", "most")]
        times_table.add_row(name, f"{seen['count']:.0f}", *cells)
    console.print(times_table)
    for fault in record.faults[:SHOWN_FAULTS]:
        console.print(f"{fault.what.value}: {fault.text}", style="red", highlight=False)
