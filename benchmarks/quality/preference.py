"""SFT, then DPO, then RLHF: each continues the version before, and each must answer more as is preferred.

What is preferred is a house style, the one of Oracle's Javadoc guide: a summary describes in the third person
("Returns that.") and does not command ("Return that."). Most of the authors command, and so does a model
that learned from them. DPO sees pairs. RLHF sees rankings only, learns a reward from them, and is judged by
the rule, which it never sees.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.quality.cells import Figures, config_of, run
from benchmarks.quality.tasks import TASKS
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import open_registry
from hotshoe.train.result import TrainResult

TASK = TASKS["summary"]
STAGES = ("sft", "dpo", "rlhf")
NAME = AdapterName("bench", "summary")

_WORDS = """
add build calculate check combine compute construct convert count create decompose determine divide estimate
evaluate extract find generate get give indicate insert iterate load make perform reduce remove replace return
set solve sort test transform update validate write yield
"""
_VERBS = frozenset(_WORDS.split())


def keeps_the_rule(answer: str) -> bool:
    """Is it one line that begins with a verb in the third person and ends in a period?"""
    said = answer.strip()
    first = said.partition(" ")[0].lower()
    return first.endswith("s") and first[:-1] in _VERBS and said.endswith(".") and "\n" not in said


def rankings(path: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Questions with an author's sentence in three forms, the one that keeps the rule first."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        first, _, rest = row.pop("output").rstrip(".").partition(" ")
        verb = first.lower()
        verb = verb if verb in _VERBS else verb.removesuffix("s")
        if verb in _VERBS and rest:
            command = f"{verb.capitalize()} {rest}"
            yield row, [f"{verb.capitalize()}s {rest}.", f"{command}.", command]


def chain(rows: Path, folder: Path, *, seed: int) -> dict[str, Any]:
    """Each stage's Figures as plain JSON, with `rule`, the share of held-out answers that keep the rule.

    rows: where the tasks' rows are. folder: keeps versions and figures; a chain that was stopped goes on.
    """
    _write_rows(rows, folder)
    found: dict[str, Any] = {}
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        for number, stage in enumerate(STAGES):
            done = folder / f"{stage}.json"
            if not done.exists():
                raw = _config(stage, rows, folder, seed=seed)
                if number:
                    raw["parent"] = f"{NAME}@v{number}"
                figures, result = run(raw, Path(tempfile.mkdtemp(dir=folder)), parents=registry)
                registry.publish(result.folder, NAME)
                done.write_text(json.dumps(_with_rule(figures, result).plain()))
            found[stage] = json.loads(done.read_text())
    return found


def _config(stage: str, rows: Path, folder: Path, *, seed: int) -> dict[str, Any]:
    raw = config_of(TASK, rows, seed=seed)
    raw["recipe"] = stage
    raw["data"]["heldout"] = str(folder / f"{stage}-heldout.jsonl")
    if stage != "sft":
        raw["data"]["train"] = str(folder / f"{stage}-train.jsonl")
        del raw["lora"]
    if stage == "dpo":
        raw["training"] |= {"steps": 20}
    if stage == "rlhf":
        raw["training"] |= {"steps": 10}
        raw["reward"] = {"rankings": str(folder / "rankings.jsonl"), "steps": 20}
    return raw


def _with_rule(figures: Figures, result: TrainResult) -> Figures:
    kept = {
        who: [keeps_the_rule(sample.answers[who]) for sample in result.samples] for who in figures.figures
    }
    held = {who: {**named, "rule": mean(kept[who])} for who, named in figures.figures.items()}
    return replace(figures, figures=held)


def _write_rows(rows: Path, folder: Path) -> None:
    for part in ("train", "heldout"):
        questions = list(rankings(TASK.path(rows, part)))
        _write(folder / f"sft-{part}.jsonl", ({**q, "output": a[0]} for q, a in questions))
        _write(folder / f"rlhf-{part}.jsonl", ({**q, "output": a[0]} for q, a in questions))
        pairs = ({**q, "chosen": a[0], "rejected": a[1]} for q, a in questions)
        _write(folder / f"dpo-{part}.jsonl", pairs)
        if part == "train":
            _write(folder / "rankings.jsonl", ({**q, "ranked": a} for q, a in questions))


def _write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
