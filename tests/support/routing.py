"""A task that the tiny base learns in seconds: each question holds one of four words, its partner answers."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotshoe.train.config import TrainConfig

PARTNERS = {"rent": "landlord", "invoice": "billing", "address": "support", "order": "camera"}
OPENINGS = ("Dear support", "please send", "my new", "the first day of", "in advance", "of March", "wrong")


def rows(seed: int, count: int) -> list[dict[str, str]]:
    """`count` rows; two seeds never draw the same question."""
    draw = random.Random(seed)
    drawn = [
        (draw.choice(OPENINGS), draw.choice(sorted(PARTNERS)), draw.choice(OPENINGS)) for _ in range(count)
    ]
    return [
        {"input": f"{left} {word} {right} {seed}", "output": PARTNERS[word]} for left, word, right in drawn
    ]


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_task(folder: Path) -> Path:
    """train.jsonl and heldout.jsonl in `folder`."""
    write(folder / "train.jsonl", rows(1, 200))
    write(folder / "heldout.jsonl", rows(2, 16))
    return folder


def config(base: Path, folder: Path, **tables: Any) -> TrainConfig:
    """A config that learns the task in `folder` on one thread in half a minute; tables replace its own."""
    raw = {
        "base": str(base),
        "data": {"train": "train.jsonl", "heldout": "heldout.jsonl"},
        "training": {"steps": 60, "batch_rows": 8, "learning_rate": 1e-2, "threads": 1},
        "evaluation": {"metrics": ["exact"], "max_new_tokens": 12},
        "publish": {"as": "acme/router"},
    }
    return TrainConfig.parse(raw | tables, folder=folder)
