"""How many rows go through at once: what was asked for where it finds room, and never another result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.rooms import run_with_room
from support.routing import config, write

from hotshoe.adapter.manifest import Manifest
from hotshoe.train.batch import SPARE, Batch, choose_batch, room_bytes, settle_batch
from hotshoe.train.estimate import Load, Shape, memory_bytes
from hotshoe.train.machine import Machine
from hotshoe.train.run import train
from hotshoe.train.sections import TrainingConfig

SHAPE = Shape(1_000_000, 10_000, 4, 64, 256, depth=1.0, bytes_per_weight=4)
ROWS = Load((100,) * 50, splits=True)


def room_for(rows: int, load: Load = ROWS) -> int:
    """Memory that holds so many rows at once, and not one more."""
    return round(memory_bytes(SHAPE, batch_tokens=load.heaviest(rows)) / SPARE) + 10_000


@pytest.mark.parametrize(
    ("asked", "room", "chosen"),
    [
        ((8, 1), 8, Batch(8, 1)),
        ((8, 1), 50, Batch(8, 1)),
        ((8, 1), 7, Batch(4, 2)),
        ((8, 1), 3, Batch(2, 4)),
        ((8, 1), 0, Batch(1, 8)),
        ((6, 2), 5, Batch(4, 3)),
        ((5, 1), 4, Batch(1, 5)),
        ((2, 4), 50, Batch(2, 4)),
    ],
)
def test_a_step_keeps_its_rows_however_little_room_there_is(
    asked: tuple[int, int], room: int, chosen: Batch
) -> None:
    training = TrainingConfig(batch_rows=asked[0], accumulate_batches=asked[1])
    assert choose_batch(training, SHAPE, ROWS, room=room_for(room)) == chosen


def test_the_longest_rows_decide_for_any_of_them_may_meet() -> None:
    few_long = Load((100,) * 50 + (5_000,), splits=True)
    room = room_for(8)
    assert choose_batch(TrainingConfig(batch_rows=8), SHAPE, ROWS, room=room) == Batch(8, 1)
    assert choose_batch(TrainingConfig(batch_rows=8), SHAPE, few_long, room=room) == Batch(1, 8)


def test_what_a_batch_compares_is_never_torn() -> None:
    pairs = Load((100,) * 50, splits=False)
    assert choose_batch(TrainingConfig(batch_rows=8), SHAPE, pairs, room=0) == Batch(8, 1)


def test_a_run_that_goes_on_keeps_its_batch_where_it_still_finds_room(tmp_path: Path) -> None:
    assert settle_batch(Batch(4, 2), tmp_path) == Batch(4, 2)
    assert settle_batch(Batch(8, 1), tmp_path) == Batch(4, 2)
    assert settle_batch(Batch(2, 4), tmp_path) == Batch(2, 4)
    (tmp_path / "batch.json").write_text("{")
    assert settle_batch(Batch(8, 1), tmp_path) == Batch(8, 1)


def test_there_is_room_within_what_the_machine_has() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    assert 0 < room_bytes(Machine("cpu", "float32", 1)) < total


def test_where_memory_is_short_a_run_goes_in_parts_and_learns_the_same(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": f"rent {index} " * 60, "completion": f"of March {index}"} for index in range(80)]
    write(tmp_path / "train.jsonl", rows)
    training = {"steps": 2, "batch_rows": 60, "threads": 1, "learning_rate": 1e-2}
    evaluation = {"metrics": ["exact"], "forgetting": False}
    tables: dict[str, Any] = {
        "data": {"train": "train.jsonl"},
        "training": training,
        "evaluation": evaluation,
    }
    whole = train(config(tiny_base, tmp_path, **tables), out=tmp_path / "whole")
    assert whole.manifest.training["batch"] == {"rows": 60, "passes": 1}

    raw = {"base": str(tiny_base), "publish": {"as": "acme/router"}} | tables
    done = run_with_room(7 << 26, raw, tmp_path, tmp_path / "parts")
    assert done.returncode == 0, done.stderr
    parts = Manifest.parse((tmp_path / "parts" / ".hotshoe" / "manifest.json").read_bytes())
    taken = parts.training["batch"]
    assert taken["rows"] < 60
    assert taken["rows"] * taken["passes"] == 60
    for figure in ("first_loss", "last_loss"):
        assert parts.training[figure] == pytest.approx(whole.manifest.training[figure], rel=1e-4)
    # The config, and with it the digest by which runs know each other, is the same on every machine.
    assert parts.training["inputs_sha256"] == whole.manifest.training["inputs_sha256"]
