from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.routing import config, rows, write

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import open_registry
from hotshoe.registry.base import fetch_base
from hotshoe.train.estimate import Load, Shape, memory_bytes, step_seconds
from hotshoe.train.plan import plan
from hotshoe.train.result import TrainResult
from hotshoe.train.run import train
from hotshoe.train.sections import TrainingConfig
from hotshoe.train.show import print_plan

SMALL = Shape(1_000_000, 10_000, 4, 64, 256, depth=1.0, bytes_per_weight=4)


def test_a_plan_foresees_what_the_run_then_does(tiny_base: Path, folder: Path, result: TrainResult) -> None:
    foreseen = plan(config(tiny_base, folder))
    training = result.manifest.training
    assert foreseen.steps == result.steps
    assert foreseen.data == training["data"]
    assert foreseen.trainable == training["trainable_parameters"]
    assert foreseen.learning_rate == training["learning_rate"]
    assert foreseen.targets == result.manifest.targets
    assert 0 < foreseen.trainable_share < 1
    assert foreseen.memory_bytes > 1_000_000
    assert foreseen.seconds > 0


@pytest.mark.parametrize(
    "tables",
    [
        {"recipe": "pretrain", "data": {"train": "texts.jsonl", "max_tokens": 64}},
        {"recipe": "full"},
        {"recipe": "rlhf", "reward": {"metric": "f1", "answers": 2}},
        {"training": {"epochs": 2, "batch_rows": 4, "check_every_steps": 5}},
    ],
    ids=["pretrain", "full", "rlhf", "checks"],
)
def test_every_recipe_takes_the_steps_that_were_foreseen(
    tiny_base: Path, tmp_path: Path, tables: dict[str, Any]
) -> None:
    write(tmp_path / "train.jsonl", rows(1, 26))
    write(tmp_path / "texts.jsonl", [{"text": f"{row['input']} {row['output']} " * 5} for row in rows(1, 26)])
    training = {"training": {"epochs": 1, "batch_rows": 4, "threads": 1}}
    quick = {"data": {"train": "train.jsonl"}, "evaluation": {"max_new_tokens": 4, "forgetting": False}}
    chosen = config(tiny_base, tmp_path, **(training | quick | tables))
    foreseen = plan(chosen)
    done = train(chosen, out=tmp_path / "out")
    assert foreseen.steps == done.steps
    assert foreseen.trainable == done.manifest.training["trainable_parameters"]
    assert foreseen.data == done.manifest.training["data"]
    assert asdict(foreseen.batch) == done.manifest.training["batch"]


def test_a_merge_is_planned_though_it_learns_nothing(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    with open_registry(str(tmp_path / "registry")) as registry:
        for seed, name in enumerate(("left", "right"), start=1):
            registry.publish(
                tiny_adapter(name, seed=seed), AdapterName("acme", name), base=fetch_base(str(tiny_base))
            )
        merge = {"sources": ["acme/left@v1", "acme/right@v1"]}
        made = plan(config(tiny_base, tmp_path, recipe="merge", data={}, merge=merge), parents=registry)
    assert (made.steps, made.trainable, made.seconds) == (0, 0, 0)
    console = Console(file=io.StringIO(), width=100)
    print_plan(made, console)
    assert "versions are combined" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_example_shows_the_answer_and_its_end_as_learned(tiny_base: Path, folder: Path) -> None:
    asked, answered = plan(config(tiny_base, folder)).example
    assert not asked.learned
    assert answered.learned
    assert answered.text.endswith("<|im_end|>")


def test_a_printed_plan_fits_a_terminal(tiny_base: Path, folder: Path) -> None:
    console = Console(file=io.StringIO(), width=100)
    print_plan(plan(config(tiny_base, folder)), console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    for word in (
        "200 rows",
        "8 rows a step, at once",
        "trainable",
        "memory",
        "steps",
        "landlord" if "landlord" in printed else "<|im_end|>",
    ):
        assert word in printed


def test_a_target_that_the_base_lacks_is_refused_before_any_step(tiny_base: Path, folder: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"no linear qkv; it has down_proj"):
        plan(config(tiny_base, folder, lora={"targets": ["qkv", "q_proj"]}))


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        (TrainingConfig(steps=7), 7),
        (TrainingConfig(epochs=1, batch_rows=4), 3),
        (TrainingConfig(epochs=2, batch_rows=2, accumulate_batches=2), 6),
        (TrainingConfig(batch_rows=100), 3),
    ],
)
def test_steps_follow_from_rows_and_batches(training: TrainingConfig, steps: int) -> None:
    assert Load((5,) * 10, splits=True).steps(training) == steps


def test_fewer_trained_layers_cost_less_memory_and_time() -> None:
    half = Shape(1_000_000, 5_000, 4, 64, 256, depth=0.5, bytes_per_weight=4)
    assert memory_bytes(half, batch_tokens=100) < memory_bytes(SMALL, batch_tokens=100)
    assert step_seconds(half, batch_tokens=100, flops=1e9) == pytest.approx(
        0.75 * step_seconds(SMALL, batch_tokens=100, flops=1e9)
    )


def test_what_goes_through_a_reference_takes_longer() -> None:
    once, twice = (step_seconds(SMALL, batch_tokens=100, flops=1e9, looks=looks) for looks in (0, 1))
    assert twice == pytest.approx(1.5 * once)
