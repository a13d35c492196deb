from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.routing import config

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.estimate import Shape, memory_bytes, step_seconds, total_steps
from hotshoe.train.plan import plan
from hotshoe.train.result import TrainResult
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
    assert total_steps(10, training) == steps


def test_fewer_trained_layers_cost_less_memory_and_time() -> None:
    half = Shape(1_000_000, 5_000, 4, 64, 256, depth=0.5, bytes_per_weight=4)
    assert memory_bytes(half, batch_tokens=100) < memory_bytes(SMALL, batch_tokens=100)
    assert step_seconds(half, batch_tokens=100, flops=1e9) == pytest.approx(
        0.75 * step_seconds(SMALL, batch_tokens=100, flops=1e9)
    )
