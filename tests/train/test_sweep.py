from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.routing import write_task

from hotshoe.adapter.errors import InvalidConfig, Refused
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import open_registry
from hotshoe.train.config import TrainConfig
from hotshoe.train.result import TrainResult
from hotshoe.train.sweep import PAGE, PLOT, parse_grid, sweep
from hotshoe.train.unchanged import unchanged

CONFIG = """
base = "{base}"
[data]
train = "train.jsonl"
{heldout}
[evaluation]
metrics = ["exact"]
[publish]
as = "acme/router"
"""


def write_config(folder: Path, base: Path, heldout: str = 'heldout = "heldout.jsonl"') -> Path:
    write_task(folder)
    path = folder / "train.toml"
    path.write_text(CONFIG.format(base=base, heldout=heldout))
    return path


def test_a_sweep_runs_every_combination_and_ranks_them(
    tiny_base: Path, result: TrainResult, tmp_path: Path
) -> None:
    asked: list[tuple[float | None, int, str]] = []

    def run(config: TrainConfig, folder: Path) -> TrainResult:
        rate, rank = config.training.learning_rate, config.lora.rank
        asked.append((rate, rank, folder.name))
        assert rate is not None
        return dataclasses.replace(result, figures={"adapter": {"exact": rate * rank}})

    grid = parse_grid(["lr=1e-4,2e-4", "lora.rank=8,16"])
    trials = sweep(write_config(tmp_path, tiny_base), grid, run, tmp_path / "out")
    assert asked == [
        (1e-4, 8, "trial-1"),
        (1e-4, 16, "trial-2"),
        (2e-4, 8, "trial-3"),
        (2e-4, 16, "trial-4"),
    ]
    assert trials[0].changes == {"training.learning_rate": "2e-4", "lora.rank": "16"}
    assert [trial.score for trial in trials] == sorted((trial.score for trial in trials), reverse=True)


def test_where_less_is_better_the_lowest_is_first(
    tiny_base: Path, result: TrainResult, tmp_path: Path
) -> None:
    def run(config: TrainConfig, folder: Path) -> TrainResult:
        return dataclasses.replace(
            result, main="loss", figures={"adapter": {"loss": float(config.lora.rank)}}
        )

    trials = sweep(write_config(tmp_path, tiny_base), parse_grid(["r=16,4,8"]), run, tmp_path / "out")
    assert [trial.changes["lora.rank"] for trial in trials] == ["4", "8", "16"]


def test_a_trial_that_is_refused_is_the_last_and_stops_no_other(
    tiny_base: Path, result: TrainResult, tmp_path: Path
) -> None:
    def run(config: TrainConfig, folder: Path) -> TrainResult:
        if config.lora.rank == 4:
            raise Refused("the loss is nan")
        return dataclasses.replace(result, figures={"adapter": {"exact": config.lora.rank / 100}})

    trials = sweep(write_config(tmp_path, tiny_base), parse_grid(["r=4,8,16"]), run, tmp_path / "out")
    assert [trial.changes["lora.rank"] for trial in trials] == ["16", "8", "4"]
    assert trials[-1].failure == "the loss is nan"
    assert "failed: the loss is nan" in (tmp_path / "out" / PAGE).read_text()
    assert (tmp_path / "out" / PLOT).read_bytes().startswith(b"\x89PNG")


def test_a_sweep_of_refused_trials_says_why_each_was(tiny_base: Path, tmp_path: Path) -> None:
    def run(config: TrainConfig, folder: Path) -> TrainResult:
        raise Refused(f"rank {config.lora.rank} diverges")

    with pytest.raises(Refused, match=r"none of 2 trials(.|\n)*r=4: rank 4 diverges(.|\n)*r=8: rank 8"):
        sweep(write_config(tmp_path, tiny_base), parse_grid(["r=4,8"]), run, tmp_path / "out")


@pytest.mark.parametrize("text", ["lr", "lr=", "=1", "lr=,"])
def test_a_grid_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="write KEY=VALUE,VALUE"):
        parse_grid([text])


def test_a_sweep_reads_every_config_before_its_first_run(tiny_base: Path, tmp_path: Path) -> None:
    def run(config: TrainConfig, folder: Path) -> TrainResult:
        raise AssertionError("nothing may run")

    with pytest.raises(InvalidConfig, match=r"lora\.rank"):
        sweep(write_config(tmp_path, tiny_base), parse_grid(["r=8,9999"]), run, tmp_path / "out")
    with pytest.raises(InvalidConfig, match=r"name data\.heldout"):
        sweep(write_config(tmp_path, tiny_base, heldout=""), parse_grid(["r=8"]), run, tmp_path / "out")


def test_a_run_is_needed_only_when_config_or_rows_changed(tiny_base: Path, tmp_path: Path) -> None:
    from hotshoe.train.run import train

    path = write_config(tmp_path, tiny_base, heldout="")
    config = TrainConfig.read(path, {"training.steps": "1", "training.threads": "1"})
    with open_registry(str(tmp_path / "registry")) as registry:
        assert unchanged(config, registry, []) is None
        version = registry.publish(train(config, out=tmp_path / "v1").folder, AdapterName("acme", "router"))
        assert unchanged(config, registry, [1]) == version
        other = TrainConfig.read(path, {"training.steps": "2", "training.threads": "1"})
        assert unchanged(other, registry, [1]) is None
        with (tmp_path / "train.jsonl").open("a") as file:
            file.write('{"input": "one more", "output": "row"}\n')
        assert unchanged(config, registry, [1]) is None
