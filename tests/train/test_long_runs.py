"""Runs that look up on the way, end early, are killed, and go on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.rooms import RUN, run_with_room
from support.routing import config, rows, write

from hotshoe.adapter.errors import InvalidConfig, Refused
from hotshoe.train.config import TrainConfig
from hotshoe.train.plan import plan
from hotshoe.train.run import train
from hotshoe.train.scratch import scratch_for

STEPS = {"steps": 12, "batch_rows": 4, "learning_rate": 1e-2, "threads": 1}


def long_run(base: Path, folder: Path, **training: Any) -> TrainConfig:
    return config(base, folder, data={"train": "train.jsonl"}, training=STEPS | training)


@pytest.mark.parametrize("lora", [{}, {"init": "pissa"}, {"init": "olora", "rslora": True}], ids=str)
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(
    tiny_base: Path, folder: Path, tmp_path: Path, lora: dict[str, Any]
) -> None:
    training = STEPS | {"checkpoint_every_steps": 3, "check_every_steps": 2}
    tables = {"data": {"train": "train.jsonl"}, "training": training, "lora": lora}
    chosen = config(tiny_base, folder, **tables)
    unbroken = train(chosen, out=tmp_path / "unbroken")
    out = tmp_path / "broken"
    raw = json.dumps(
        {
            "base": str(tiny_base),
            "evaluation": {"metrics": ["exact"], "max_new_tokens": 12},
            "publish": {"as": "acme/router"},
        }
        | tables
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


def test_a_reward_that_diverges_names_its_rankings(tiny_base: Path, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", rows(1, 8))
    ranked = [{"input": row["input"], "ranked": ["yes yes yes", "yes no", "no no no"]} for row in rows(3, 24)]
    write(tmp_path / "rankings.jsonl", ranked)
    wild = config(
        tiny_base,
        tmp_path,
        recipe="rlhf",
        data={"train": "train.jsonl"},
        training=STEPS | {"learning_rate": 1.0, "warmup_share": 0.0, "max_gradient_norm": 1e9},
        reward={"rankings": "rankings.jsonl", "answers": 2, "steps": 30},
    )
    with pytest.raises(Refused, match=r"nothing was packaged.*look at these rows: rankings\.jsonl:\d"):
        train(wild, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "said"), [("tensorbord", "did you mean 'tensorboard'?"), ("wandb", "pip install wandb")]
)
def test_a_tracker_that_cannot_be_is_refused(tiny_base: Path, folder: Path, name: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        plan(long_run(tiny_base, folder, trackers=[name]))
    assert said in str(refused.value)


def test_a_tracker_is_told_every_step_and_keeps_it(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    train(long_run(tiny_base, folder, steps=3, trackers=["tensorboard"]), out=tmp_path / "out")
    told = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard" / "out").iterdir())
    assert told.count(b"train/loss") == 3


@pytest.mark.parametrize(
    ("recipe", "held", "row"),
    [
        ("dpo", "pairs", {"chosen": "of March", "rejected": "of May"}),
        ("kto", "rows", {"completion": "of March", "label": True}),
    ],
)
def test_running_out_of_memory_says_which_knob_to_turn_and_the_knob_helps(
    tiny_base: Path, tmp_path: Path, recipe: str, held: str, row: dict[str, Any]
) -> None:
    # Room for the model and for a few rows of 200 tokens, and not for what 100 of them leave behind.
    asked = {"prompt": "rent " * 160}
    rows = [asked | row | ({"label": bool(number % 2)} if "label" in row else {}) for number in range(100)]
    write(tmp_path / "train.jsonl", rows)
    training = {"steps": 1, "batch_rows": 100, "threads": 1}
    raw = {"base": str(tiny_base), "recipe": recipe, "data": {"train": "train.jsonl"}, "training": training}
    room = 7 << (27 if recipe == "dpo" else 26)
    failed = run_with_room(room, raw, tmp_path, tmp_path / "out")
    said = rf"out of memory with 100 {held} of up to \d+ tokens at once: set training\.recompute = true"
    assert re.search(f"Refused: .*{said}", failed.stderr), failed.stderr
    assert failed.returncode == 1
    assert not (tmp_path / "out").exists()
    fewer = training | {"batch_rows": 2, "accumulate_batches": 50}
    helped = run_with_room(room, raw | {"training": fewer}, tmp_path, tmp_path / "out")
    assert helped.returncode == 0, helped.stderr


def test_recomputing_changes_no_loss(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    kept, again = (
        train(long_run(tiny_base, folder, steps=3, recompute=recompute), out=tmp_path / str(recompute))
        for recompute in (False, True)
    )
    assert kept.losses == again.losses


def _checkpoint(scratch: Path) -> Path:
    (scratch / "checkpoint-3").mkdir()
    return scratch / "checkpoint-3"


def _wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(2400):
        if file.exists():
            return
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError(f"{file.name} was never written")


def test_two_runs_never_write_to_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with scratch_for(out, "a", keep=False) as scratch:
        (scratch / "work").mkdir()
        for keep in (False, True):
            with (
                pytest.raises(InvalidConfig, match="another process is training"),
                scratch_for(out, "b", keep=keep),
            ):
                pytest.fail("two runs at once")
        assert (scratch / "work").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_kept_stays_until_the_same_run_ends(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileExistsError), scratch_for(out, "a", keep=True) as scratch:
        shutil.copytree(_checkpoint(scratch), scratch, dirs_exist_ok=False)
    with pytest.raises(InvalidConfig, match="unfinished run"), scratch_for(out, "a", keep=False):
        pytest.fail("another run's folder")
    with scratch_for(out, "a", keep=True) as scratch:
        assert (scratch / "checkpoint-3").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_without_checkpoints_left_is_swept_away(tmp_path: Path) -> None:
    left = tmp_path / ".out.run"
    (left / "checks").mkdir(parents=True)
    (left / "batch.json").write_text("{}")
    with scratch_for(tmp_path / "out", "a", keep=True) as scratch:
        assert sorted(path.name for path in scratch.iterdir()) == ["inputs.sha256", "lock"]
