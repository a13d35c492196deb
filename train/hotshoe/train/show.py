"""A plan and a result as people read them on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hotshoe.train.plan import Plan

_NOTES_SHOWN = 8
_ASIDE = {"rlhf": "drawing answers, learning the reward and evaluation"}


def print_plan(plan: Plan, console: Console) -> None:
    """Print a plan as one table, the rows' notes, and the first row with what is learned of it in green."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _lines(plan):
        table.add_row(Text(name, style="bold"), value)
    console.print(table)
    for note in plan.notes[:_NOTES_SHOWN]:
        console.print(Text(f"{note.code.lower()}  {note}", style="yellow"))
    if len(plan.notes) > _NOTES_SHOWN:
        console.print(Text(f"and {len(plan.notes) - _NOTES_SHOWN} more notes", style="yellow"))
    if not plan.example:
        return
    console.print(Text("\nThe first row; green is learned, the rest is read:", style="bold"))
    console.print(
        Text.assemble(*((piece.text, "green" if piece.learned else "dim") for piece in plan.example))
    )


def _lines(plan: Plan) -> list[tuple[str, str]]:
    lines = [("recipe", plan.recipe), ("base", str(plan.base))]
    if plan.parents:
        lines.append(("from", ", ".join(plan.parents)))
    for part, facts in plan.data.items():
        skipped = f", {facts['skipped']} skipped" if facts["skipped"] else ""
        tokens = f"{facts['tokens']:,} tokens ({facts['learned_tokens']:,} learned)"
        rows = f"{facts['rows']:,} rows{skipped}"
        lines.append((part, f"{rows}, {tokens}, longest {facts['longest']:,}, none cut"))
    share = f"{plan.trainable_share:.2%} of {plan.parameters:,}"
    lines += [
        ("trainable", f"{plan.trainable:,} parameters, {share}, on {', '.join(plan.targets)}"),
        ("machine", f"{plan.machine.device}, {plan.machine.dtype}, CPU threads: {plan.machine.threads}"),
    ]
    if not plan.steps:
        return [*lines, ("learning", "nothing: versions are combined")]
    lines += [
        ("learning", f"{plan.steps:,} steps, peak rate {plan.learning_rate:.2g}"),
        ("batch", _batch(plan)),
        (
            "memory",
            f"about {plan.memory_bytes / 2**30:.1f} GiB, of {plan.room_bytes / 2**30:.1f} there is room for",
        ),
        ("time", f"about {_duration(plan.seconds)}, {_ASIDE.get(plan.recipe, 'evaluation')} aside"),
    ]
    return lines


def _batch(plan: Plan) -> str:
    rows, passes = plan.batch.rows, plan.batch.passes
    how = "at once" if passes == 1 else f"{rows} at once, {passes} times"
    return f"{rows * passes} rows a step, {how}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
