"""Runs that look up on the way, end early, are killed, and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.routing import config

from hotshoe.adapter.errors import InvalidConfig, Refused
from hotshoe.train.config import TrainConfig
from hotshoe.train.lesson import Lesson
from hotshoe.train.machine import Machine
from hotshoe.train.prepare import Part, Prepared
from hotshoe.train.progress import Silent
from hotshoe.train.run import train
from hotshoe.train.tokens import Encoded
from hotshoe.train.trainer import memory_explained

STEPS = {"steps": 12, "batch_rows": 4, "learning_rate": 1e-2, "threads": 1}

RUN = """
import json, sys
from pathlib import Path
from hotshoe.train.config import TrainConfig
from hotshoe.train.run import train
raw, folder, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
train(TrainConfig.parse(raw, folder=folder), out=out)
"""


def long_run(base: Path, folder: Path, **training: Any) -> TrainConfig:
    return config(base, folder, data={"train": "train.jsonl"}, training=STEPS | training)


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    chosen = long_run(tiny_base, folder, checkpoint_every_steps=3, check_every_steps=2)
    unbroken = train(chosen, out=tmp_path / "unbroken")
    out = tmp_path / "broken"
    raw = json.dumps(
        {
            "base": str(tiny_base),
            "data": {"train": "train.jsonl"},
            "training": STEPS | {"checkpoint_every_steps": 3, "check_every_steps": 2},
            "evaluation": {"metrics": ["exact"], "max_new_tokens": 12},
            "publish": {"as": "acme/router"},
        }
    )
    process = subprocess.Popen([sys.executable, "-c", RUN, raw, str(folder), str(out)])
    try:
        _wait_for(tmp_path / ".broken.run" / "checkpoint-6" / "trainer_state.json", process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not out.exists()
    resumed = train(chosen, out=out)
    assert resumed.losses == unbroken.losses
    assert resumed.checks == unbroken.checks
    assert resumed.manifest == unbroken.manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "unbroken"]


def test_another_config_does_not_go_on_where_a_killed_run_was(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / ".out.run").mkdir()
    (tmp_path / ".out.run" / "inputs.sha256").write_text("f" * 64)
    with pytest.raises(InvalidConfig, match="unfinished run with other config or data"):
        train(long_run(tiny_base, folder, checkpoint_every_steps=3), out=tmp_path / "out")


def test_a_run_that_gets_worse_ends_early_and_keeps_its_best(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    wild = long_run(
        tiny_base,
        folder,
        steps=60,
        learning_rate=0.3,
        schedule="constant",
        warmup_share=0.0,
        check_every_steps=1,
        patience_checks=3,
    )
    result = train(wild, out=tmp_path / "out")
    losses = [check.loss for check in result.checks]
    assert result.steps < 60
    assert result.kept_step == losses.index(min(losses)) + 1 == result.steps - 3
    assert result.manifest.training["kept_step"] == result.kept_step


def test_running_out_of_memory_says_which_knob_to_turn(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    rows = tuple(Encoded("rows.jsonl:1", (1,) * length, (1,) * length) for length in (3, 9))
    data = Prepared(Part(rows, tuple((row,) for row in rows), ""), None, ())
    lesson = Lesson(
        None, None, data, long_run(tiny_base, folder), Machine("cpu", "float32", 1), tmp_path, Silent()
    )
    said = r"4 rows of up to 9 tokens at once: halve training\.batch_rows"
    with pytest.raises(Refused, match=said), memory_explained(lesson):
        raise MemoryError


def _wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(2400):
        if file.exists():
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError(f"{file.name} was never written")
