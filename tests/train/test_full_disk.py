"""A disk that takes no more while a run writes checkpoints, its best adapter, or what it packages."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.full_disk import no_file_grows_beyond
from support.routing import config, rows, write

from hotshoe.adapter.errors import InvalidConfig, Refused
from hotshoe.train.config import TrainConfig
from hotshoe.train.disk import check_room, disk_explained, written_bytes
from hotshoe.train.estimate import Shape
from hotshoe.train.progress import Silent
from hotshoe.train.run import train
from hotshoe.train.scratch import scratch_for
from hotshoe.train.trainer import goes_on, restore, sweep

SHAPE = Shape(1_000_000, 10_000, 4, 64, 256, depth=1.0, bytes_per_weight=4)
STEPS = {"steps": 8, "batch_rows": 4, "learning_rate": 1e-2, "threads": 1}


class Filling(Silent):
    """Fills the disk when the run comes to a step or a stage; files beyond `size` bytes find no room then."""

    def __init__(self, disk: contextlib.ExitStack, at: int | str, size: int) -> None:
        self._disk, self._at, self._size = disk, at, size

    def stage(self, text: str) -> None:
        self._fill(text)

    def step(self, done: int, total: int, loss: float | None) -> None:
        if loss is not None:
            self._fill(done)

    def _fill(self, where: int | str) -> None:
        if where == self._at:
            self._disk.enter_context(no_file_grows_beyond(self._size))


def run_on_a_full_disk(chosen: TrainConfig, out: Path, at: int | str, size: int) -> str:
    """What a run says whose disk is full from a step or a stage on."""
    with contextlib.ExitStack() as disk, pytest.raises(Refused) as refused:
        train(chosen, out=out, progress=Filling(disk, at, size))
    assert not out.exists()
    assert not (out.parent / f".{out.name}.partial").exists()
    return refused.value.message


# The adapter takes 300 KB, Adam's moments twice that: safetensors, torch and Python fail each in its own way.
@pytest.mark.parametrize("size", [1_000, 100_000, 400_000], ids=["json", "adapter", "optimizer"])
def test_a_checkpoint_that_finds_no_room_is_told_and_the_last_one_goes_on(
    tiny_base: Path, folder: Path, tmp_path: Path, size: int
) -> None:
    chosen = config(
        tiny_base,
        folder,
        data={"train": "train.jsonl"},
        training=STEPS | {"checkpoint_every_steps": 3, "check_every_steps": 1},
        evaluation={"forgetting": False},
    )
    out = tmp_path / "out"
    said = run_on_a_full_disk(chosen, out, 4, size)
    assert re.search(
        r"what the run keeps could not be written: .*; the run writes about \d+\.\d MiB, and ", said
    )
    assert re.search(rf"{tmp_path}/\.out\.run has [\d,.]+ MiB free\. Make room.* goes on after step 3", said)
    assert (tmp_path / ".out.run" / "checkpoint-3").is_dir()
    unbroken = train(chosen, out=tmp_path / "unbroken")
    resumed = train(chosen, out=out)
    assert resumed.losses == unbroken.losses
    assert resumed.manifest == unbroken.manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "unbroken"]


RECIPES: dict[str, dict[str, Any]] = {
    "pretrain": {"data": {"train": "train.jsonl", "max_tokens": 64}},
    "dpo": {},
    "dpo from pissa": {"lora": {"init": "pissa"}},
    "kto": {},
    "rlhf": {"reward": {"function": "score.py:score", "answers": 2}},
}


@pytest.mark.parametrize("run", RECIPES)
def test_every_recipe_goes_on_with_the_losses_that_it_would_have_had(
    tiny_base: Path, tmp_path: Path, run: str
) -> None:
    recipe = run.split()[0]
    write(tmp_path / "train.jsonl", [_row(recipe, number, row) for number, row in enumerate(rows(1, 24))])
    (tmp_path / "score.py").write_text("def score(question, answer, expected): return len(answer) % 7\n")
    training = STEPS | {"steps": 6, "checkpoint_every_steps": 2}
    evaluation = {"max_new_tokens": 8, "forgetting": False}
    tables = {"data": {"train": "train.jsonl"}, "training": training, "evaluation": evaluation}
    chosen = config(tiny_base, tmp_path, recipe=recipe, **(tables | RECIPES[run]))
    assert "goes on after step 2" in run_on_a_full_disk(chosen, tmp_path / "out", 3, 100_000)
    unbroken, resumed = (train(chosen, out=tmp_path / name) for name in ("unbroken", "out"))
    assert len(set(unbroken.losses)) > 3
    assert resumed.losses == unbroken.losses
    assert resumed.rewards == unbroken.rewards
    assert resumed.manifest == unbroken.manifest


def _row(recipe: str, number: int, row: dict[str, str]) -> dict[str, Any]:
    asked, answer = row["input"], row["output"]
    match recipe:
        case "pretrain":
            return {"text": f"{asked} {answer} " * 4}
        case "dpo":
            return {"input": asked, "chosen": answer, "rejected": f"not {answer}"}
        case "kto":
            return {"input": asked, "completion": answer, "label": bool(number % 2)}
    return {"input": asked}


EARLY = {"schedule": "constant", "warmup_share": 0.0, "check_every_steps": 1, "patience_checks": 1}


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"checkpoint_every_steps": 4},
        {"checkpoint_every_steps": 1, "learning_rate": 0.3, "steps": 60} | EARLY,
    ],
    ids=["no checkpoints", "checkpoints", "an early end"],
)
def test_an_adapter_that_finds_no_room_leaves_no_half_of_it_and_costs_no_step(
    tiny_base: Path, folder: Path, tmp_path: Path, training: dict[str, Any]
) -> None:
    evaluation = {"max_new_tokens": 2, "forgetting": False}
    chosen = config(tiny_base, folder, training=STEPS | training, evaluation=evaluation)
    kept = "checkpoint_every_steps" in training
    said = run_on_a_full_disk(chosen, tmp_path / "out", "Ask the adapter", 100_000)
    assert "the adapter could not be written: " in said
    assert ("it goes on after step" if kept else "it begins anew") in said
    assert [path.name for path in tmp_path.iterdir()] == ([".out.run"] if kept else [])
    unbroken, resumed = (train(chosen, out=tmp_path / name) for name in ("unbroken", "out"))
    assert resumed.losses == unbroken.losses
    assert resumed.manifest == unbroken.manifest


def test_what_moved_the_base_is_told_of_as_anything_else(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    chosen = config(tiny_base, folder, data={"train": "train.jsonl"}, lora={"init": "pissa"}, training=STEPS)
    assert "could not be written" in run_on_a_full_disk(chosen, tmp_path / "out", "Train", 100_000)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_the_disk_has_no_room_for_is_refused_before_its_first_step(tmp_path: Path) -> None:
    with (
        pytest.raises(
            Refused, match=r"writes about 1,099,511,627,776\.0 MiB, and .* MiB free: make room there"
        ),
        scratch_for(tmp_path / "out", "a", keep=True, needed=1 << 60),
    ):
        pytest.fail("there is no such disk")
    assert list(tmp_path.iterdir()) == []


def test_what_a_run_has_written_already_needs_no_room_again(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_bytes(b"\0" * 4096)
    (tmp_path / "gone meanwhile").symlink_to("nothing")
    check_room(tmp_path, 4096 + 100, free=100)
    with pytest.raises(Refused):
        check_room(tmp_path, 4096 + 101, free=100)


def test_what_is_written_grows_with_what_is_kept(tiny_base: Path, folder: Path) -> None:
    def adapters(**tables: Any) -> int:
        chosen = config(tiny_base, folder, **tables)
        return (written_bytes(chosen, SHAPE) - written_bytes(full, SHAPE)) // (SHAPE.trainable * 4)

    full = config(tiny_base, folder, recipe="full")
    extracted = replace(SHAPE, adapter=5_000)
    assert written_bytes(full, extracted) - written_bytes(full, SHAPE) == 20_000
    assert adapters() == 1
    assert adapters(lora={"init": "pissa"}) == 3
    assert adapters(training={"checkpoint_every_steps": 5}) == 10
    assert adapters(training={"check_every_steps": 5}) == 3


def test_what_is_no_disks_refusal_goes_by_as_it_is(tmp_path: Path) -> None:
    for error in (
        ConnectionRefusedError(errno.ECONNREFUSED, "no tracker there"),
        ValueError("no"),
        PermissionError(errno.EACCES, "Permission denied", "/elsewhere/scores.txt"),
        PermissionError(errno.EPERM, "Operation not permitted"),
        OSError(errno.EIO, "Input/output error", str(tmp_path.with_name("tracker"))),
    ):
        with pytest.raises(type(error)), disk_explained("it", tmp_path, 1, lambda: ""):
            raise error


def test_a_place_that_may_not_be_written_is_told_in_the_folder_and_on_the_way_there(tmp_path: Path) -> None:
    for place in (tmp_path / "checkpoint-3" / "state", tmp_path.parent):
        with pytest.raises(Refused, match="it could not be written"), disk_explained("it", tmp_path, 1, str):
            raise PermissionError(errno.EACCES, "Permission denied", str(place))


def checkpoint(folder: Path, step: int, state: str | None) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir()
    if state is not None:
        (made / "trainer_state.json").write_text(state)
    return made


def test_what_becomes_of_a_run_is_told_without_removing_anything(tmp_path: Path) -> None:
    checkpoint(tmp_path, 2, "{}")
    checkpoint(tmp_path, 4, '{"half')
    checkpoint(tmp_path, 6, None)
    assert "it goes on after step 2" in goes_on(tmp_path)
    (tmp_path / "checkpoint-8").mkdir()
    # It is there, and whether it is whole cannot be known: a link to itself cannot be opened.
    (tmp_path / "checkpoint-8" / "trainer_state.json").symlink_to("trainer_state.json")
    assert "it goes on after the last step that it kept" in goes_on(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_half_a_checkpoint_is_swept_away_and_one_that_cannot_be_read_just_now_is_not(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (4, '{"half'), (6, None)):
        checkpoint(tmp_path, step, state)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    (tmp_path / "checkpoint-2" / "trainer_state.json").unlink()
    (tmp_path / "checkpoint-2" / "trainer_state.json").symlink_to("trainer_state.json")
    with pytest.raises(OSError, match="Too many levels"):
        sweep(tmp_path)
    assert (tmp_path / "checkpoint-2").is_dir()


def test_a_trainer_that_has_no_epochs_to_leave_out_says_so(tmp_path: Path) -> None:
    ended = {"stateful_callbacks": {"TrainerControl": {"args": {"should_training_stop": True}}}}
    last = checkpoint(tmp_path, 2, json.dumps(ended))
    with pytest.raises(AttributeError, match="has no _run_epoch"):
        restore(SimpleNamespace(), SimpleNamespace(peft_config={}), last)


def test_a_run_beside_another_is_told_of_that_one_and_not_of_the_room(tmp_path: Path) -> None:
    with scratch_for(tmp_path / "out", "a", keep=False) as scratch:
        with (
            pytest.raises(InvalidConfig, match="another process is training"),
            scratch_for(tmp_path / "out", "a", keep=False, needed=1 << 60),
        ):
            pytest.fail("two runs at once")
        assert scratch.is_dir()


def test_what_ended_a_run_is_told_where_its_folder_cannot_be_removed(tmp_path: Path) -> None:
    def run() -> None:
        with scratch_for(tmp_path / "out", "a", keep=False) as scratch:
            # A folder that is gone cannot be removed, as one on a disk that fails.
            shutil.rmtree(scratch)
            raise Refused("the disk is full")

    with pytest.raises(Refused, match="the disk is full"):
        run()
