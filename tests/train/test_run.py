"""Whole runs of the sft recipe on the tiny base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.routing import PARTNERS, config

from hotshoe.adapter.errors import InvalidConfig, InvalidData, Refused
from hotshoe.adapter.manifest import Manifest
from hotshoe.registry.base import fetch_base
from hotshoe.registry.inspect import inspect
from hotshoe.train.plan import plan
from hotshoe.train.result import TrainResult
from hotshoe.train.run import train
from hotshoe.train.trainer import default_learning_rate


def test_a_run_learns_the_task_and_says_how_well(result: TrainResult) -> None:
    assert result.base["exact"] == 0
    assert result.adapter["exact"] > 0.8
    assert result.adapter["ended"] == 1
    assert result.adapter["loss"] < result.base["loss"] / 2
    assert result.steps == len(result.losses) == 60
    assert result.losses[-1] < result.losses[0] / 4
    assert result.base.keys() == result.adapter.keys()
    assert result.adapter["forgetting"] > result.base["forgetting"] == 0
    assert result.samples[0].expected in PARTNERS.values()


def test_the_package_is_one_that_serves(result: TrainResult, tiny_base: Path) -> None:
    assert sorted(path.name for path in result.folder.iterdir()) == [
        ".hotshoe",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    inspection = inspect(result.folder, json.loads((tiny_base / "config.json").read_text()))
    assert not inspection.findings


def test_the_manifest_says_what_was_trained_on_what(
    result: TrainResult, tiny_base: Path, folder: Path
) -> None:
    manifest = Manifest.parse((result.folder / ".hotshoe" / "manifest.json").read_bytes())
    assert manifest == result.manifest
    assert manifest.adapter == "acme/router"
    assert manifest.base == fetch_base(str(tiny_base)).base
    assert (manifest.rank, manifest.alpha) == (16, 32)
    assert "q_proj" in manifest.targets
    assert manifest.metrics["exact"] == result.adapter["exact"]
    assert manifest.metrics["base.exact"] == result.base["exact"]
    assert manifest.training["data"]["train"]["rows"] == 200
    assert manifest.training["config"]["training"]["steps"] == 60
    assert str(folder) not in manifest.canonical().decode()
    assert str(tiny_base) not in manifest.canonical().decode()


def test_the_same_run_twice_gives_the_same_bytes(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    short = config(tiny_base, folder, training={"steps": 3, "threads": 1}, data={"train": "train.jsonl"})
    first, second = (train(short, out=tmp_path / name) for name in ("first", "second"))
    assert first.manifest == second.manifest
    assert set(first.adapter) == {"forgetting", "general_loss"}


def test_of_few_learned_tokens_a_step_takes_a_lower_rate(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    def rate(**training: Any) -> float:
        chosen = config(
            tiny_base, folder, data={"train": "train.jsonl"}, training={"steps": 1, "threads": 1} | training
        )
        return plan(chosen).learning_rate

    facts = plan(config(tiny_base, folder)).data["train"]
    learned = facts["learned_tokens"] / facts["rows"]
    full = default_learning_rate(128)
    assert learned < 12
    assert rate(batch_rows=1) == pytest.approx(full * learned / 24)
    assert rate(batch_rows=2) == pytest.approx(full * learned / 12)
    assert rate(batch_rows=1, accumulate_batches=2) == rate(batch_rows=2)
    assert rate(batch_rows=64) == full
    assert rate(batch_rows=1, learning_rate=0.5) == 0.5


def test_patterns_and_lora_plus_are_trained_and_served(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    shaped = config(
        tiny_base,
        folder,
        data={"train": "train.jsonl"},
        lora={
            "rank": 4,
            "rank_pattern": {"down_proj": 8},
            "alpha_pattern": {"q_proj": 4.0},
            "init": "gaussian",
        },
        training={"steps": 6, "lora_plus_ratio": 8, "learning_rate": 1e-3, "threads": 1},
    )
    result = train(shaped, out=tmp_path / "out")
    assert result.manifest.rank == 8
    assert result.losses[-1] < result.losses[0]
    assert not inspect(result.folder, json.loads((tiny_base / "config.json").read_text())).findings


def test_training_on_held_out_rows_is_refused(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    leaky = config(tiny_base, folder, data={"train": "train.jsonl", "heldout": "train.jsonl"})
    with pytest.raises(InvalidData, match=r"held-out rows are trained on(.|\n)*train.jsonl:1 is train.jsonl"):
        train(leaky, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_that_diverges_packages_nothing(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    wild = config(
        tiny_base,
        folder,
        data={"train": "train.jsonl"},
        lora={"alpha": 4096.0, "rank": 1},
        training={"steps": 40, "learning_rate": 1.0, "max_gradient_norm": 1e30, "threads": 1},
    )
    with pytest.raises(Refused):
        train(wild, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_not_written_over(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InvalidConfig, match="is not empty"):
        train(config(tiny_base, folder), out=tmp_path)


def test_a_parent_without_a_registry_is_refused(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="name the registry"):
        train(config(tiny_base, folder, parent="acme/router@v1"), out=tmp_path / "out")
