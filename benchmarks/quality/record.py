"""The record of the runs, docs/quality.json, and the page that is made of it, docs/quality.md."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.quality.cells import Cell
from benchmarks.quality.methods import METHODS
from benchmarks.quality.preference import STAGES
from benchmarks.quality.tasks import TASKS, Task
from benchmarks.report import BEGIN, END, ROOT, commit, machine

RECORD = ROOT / "docs" / "quality.json"
PAGE = ROOT / "docs" / "quality.md"

Run = Mapping[str, Any]
"""A cell's Figures as plain JSON; of a chain, one by stage."""

COSTS = ("training_seconds", "training_gib")


def known() -> dict[str, Run]:
    """Every run on record, by its cell."""
    return dict(json.loads(RECORD.read_text())["runs"]) if RECORD.exists() else {}


def key(cell: Cell) -> str:
    return f"{cell.task} {cell.method} {cell.seed}"


def add(cell: Cell, run: Run, seconds: float) -> None:
    """Put a run into the record, in the place of an older one of the same cell, and write the page anew.

    seconds: how long it took by the clock.
    """
    box = machine()
    taken = {
        "processor": f"{box['processor']} ({box['vectors']})",
        "versions": box["versions"],
        "commit": commit(),
        "load": round(os.getloadavg()[0], 1),
        "seconds": round(seconds),
    }
    write({**known(), key(cell): {**run, "taken": taken}})


def write(runs: Mapping[str, Run]) -> None:
    """Write the record and the page."""
    RECORD.write_text(json.dumps({"runs": runs}, indent=1, sort_keys=True) + "\n")
    before, rest = PAGE.read_text().split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    figures = "\n\n".join([*_tasks(runs), *_preference(runs)])
    PAGE.write_text(f"{before}{BEGIN}\n{figures}\n{END}{after}")


def _taken(command: str, runs: Sequence[Run]) -> str:
    """The command that takes a table again, and where and when its runs were taken."""
    known = [run["taken"] for run in runs]
    where = "; ".join(
        f"{count} on {processor} at `{at}`"
        for (processor, at), count in Counter((each["processor"], each["commit"]) for each in known).items()
    )
    seconds = [each["seconds"] for each in known if "seconds" in each]
    long = f"; {len(seconds)} of them timed, {_range(seconds)} each" if seconds else ""
    return f"`python -m benchmarks.quality {command}`. Runs: {where}{long}."


def _range(seconds: Sequence[float]) -> str:
    low, high = min(seconds) / 60, max(seconds) / 60
    return f"{high:.1f} min" if high - low < 0.1 else f"{low:.1f} to {high:.1f} min"


def _tasks(runs: Mapping[str, Run]) -> Iterator[str]:
    for task in TASKS.values():
        found = {method: _of(runs, task.name, method) for method in METHODS}
        if any(found.values()):
            yield f"## {task.name}: {task.about}"
            seeds = _seeds(max(map(len, found.values())))
            steps = f"{task.steps} steps of {task.batch_rows} rows"
            yield f"{task.train} rows, {task.heldout} held out, {steps}, {seeds}."
            yield _taken(task.name, [run for runs in found.values() for run in runs])
            yield _comparison(task, found)
        if found["full"]:
            yield _extraction(found["full"])


def _comparison(task: Task, found: Mapping[str, Sequence[Run]]) -> str:
    rows = [["base", *_held(task, "base", [runs[0] for runs in found.values() if runs][:1]), "", ""]]
    for method, runs in found.items():
        if runs and method == "full":
            rows.append(["full", *_held(task, "full", runs), *_cost(runs)])
            rows.append(["extracted", *_held(task, "adapter", runs), "", ""])
        elif runs:
            rows.append([method, *_held(task, "adapter", runs), *_cost(runs)])
    return _table(
        ["", f"`{task.metric}`", "loss", "ends by itself", "forgetting", "training, CPU s", "GiB"], rows
    )


def _held(task: Task, who: str, runs: Sequence[Run]) -> list[str]:
    held = [run["figures"][who] for run in runs]
    names = (task.metric, "loss", "ended", "forgetting")
    return [_spread([each[name] for each in held if name in each]) for name in names]


def _cost(runs: Sequence[Run]) -> list[str]:
    return [_spread([run[cost] for run in runs], digits=1) for cost in COSTS]


def _extraction(runs: Sequence[Run]) -> str:
    """What cutting a full change down to a rank costs."""
    ranks = sorted(filter(str.isdigit, runs[0]["extraction"]), key=int)
    shown = ["base", *ranks, "full"]
    losses = [_spread([run["extraction"][rank] for run in runs]) for rank in shown]
    return "Held-out loss of the whole change, cut to each rank:\n\n" + _table(shown, [losses])


def _preference(runs: Mapping[str, Run]) -> Iterator[str]:
    chains = _of(runs, "summary", "preference")
    if not chains:
        return
    yield "## SFT, then DPO, then RLHF"
    yield (
        "`rule`: share of held-out answers that keep the house style (a line in the third person). "
        "`preferred`: share of held-out pairs of which the better is found likelier. `reward`: what the "
        f"learned reward says. `rouge_l`: likeness to the author's words. {_seeds(len(chains))}."
    )
    yield _taken("preference", chains) + " One seed: `--seed 2`."
    names = ("rule", "preferred", "reward", "rouge_l", "forgetting")
    rows = [["base", *(_after("base", name, chains) for name in names), "", ""]]
    for stage in STAGES:
        cost = _cost([chain[stage] for chain in chains])
        rows.append([stage, *(_after(stage, name, chains) for name in names), *cost])
    yield _table(
        ["after", *(f"`{name}`" for name in names[:-1]), "forgetting", "training, CPU s", "GiB"], rows
    )


def _after(stage: str, name: str, chains: Sequence[Run]) -> str:
    """A figure after a stage, of each chain; the base's are in whichever run took them."""
    who, runs = ("base", STAGES) if stage == "base" else ("adapter", (stage,))
    seen = [[chain[run]["figures"][who].get(name) for run in runs] for chain in chains]
    known = [[figure for figure in figures if figure is not None] for figures in seen]
    return _spread([figures[0] for figures in known if figures])


def _of(runs: Mapping[str, Run], task: str, method: str) -> list[Run]:
    return [run for name, run in sorted(runs.items()) if name.rpartition(" ")[0] == f"{task} {method}"]


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean, and lowest to highest where they differ."""
    if not values:
        return ""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), mean(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"
