"""`hotshoe train` and `hotshoe report`, as people run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.routing import rows, write
from typer.testing import CliRunner, Result

from hotshoe.cli.main import app

Run = Callable[..., Result]

CONFIG = """
base = "{base}"
gates = ["loss <= base", "exact >= 0.99"]

[publish]
as = "acme/router"
examples = 3

[data]
train = "train.jsonl"
heldout = "heldout.jsonl"

[lora]
rank = 4

[training]
steps = 6
learning_rate = 1e-2
threads = 1

[evaluation]
metrics = ["exact"]
max_new_tokens = 6
forgetting = false
"""
HOTSHOE = [sys.executable, "-c", "from hotshoe.cli.main import main; main()"]


@pytest.fixture(scope="module")
def place(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with router.toml and its rows; runs in it keep everything below it."""
    folder = tmp_path_factory.mktemp("place")
    write(folder / "train.jsonl", rows(1, 40))
    write(folder / "heldout.jsonl", rows(2, 4))
    (folder / "router.toml").write_text(CONFIG.format(base=tiny_base))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in {
            "HOTSHOE_REGISTRY": str(folder / "registry"),
            "HOTSHOE_CACHE": str(folder / "cache"),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def run(place: Path) -> Run:
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def trained(run: Run) -> str:
    """What the terminal showed of a run that was published."""
    result = run("train", "router.toml", "--publish", "-m", "the first")
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(result: Result) -> str:
    assert result.exit_code == 2, result.output
    return result.stderr


def test_a_run_shows_figures_gates_answers_and_where_all_of_it_is(trained: str) -> None:
    assert re.search(r"figure +\S +base +\S +adapter", trained)
    assert re.search(r"exact \* ", trained)
    assert "gate passed: loss <= base" in trained
    assert "gate FAILED: exact >= 0.99" in trained
    assert re.search(r"heldout\.jsonl:1\n +asked .*\n +expected .*\n +base .*\n +adapter ", trained)
    assert "published acme/router@v1" in trained


def test_the_report_of_a_version_shows_what_its_run_measured(run: Run, trained: str) -> None:
    shown = run("report", "acme/router@v1").stdout
    assert re.search(r"loss +\S +\d+\.\d+ +\S +\d+\.\d+", shown)
    assert "gate FAILED: exact >= 0.99" in shown


def test_the_whole_page_comes_from_the_registry_and_may_run_nothing(
    run: Run, trained: str, place: Path
) -> None:
    assert run("report", "acme/router@v1", "--out", "page.html").exit_code == 0
    page = (place / "page.html").read_text()
    assert page.startswith('<!doctype html>\n<meta http-equiv="Content-Security-Policy"')
    assert page.count("<pre>") >= 3


def test_a_version_that_was_not_trained_here_has_no_report(
    run: Run, tiny_base: Path, tiny_adapter: Callable[..., Path]
) -> None:
    foreign = tiny_adapter("foreign", seed=1)
    done = run("publish", foreign, "--as", "acme/foreign", "--base", tiny_base)
    assert done.exit_code == 0, done.output
    found = run("report", "acme/foreign@v1", "--out", "none.html")
    assert (found.exit_code, "holds no report" in found.stderr) == (1, True)


def test_a_sweep_takes_fixed_values_too_and_publishes_the_best(run: Run, place: Path) -> None:
    sweep = ("--sweep", "r=1,2", "lr=1e-4", "--set", "training.steps=2", "--out", "swept")
    done = run("train", "router.toml", *sweep, "--set", "publish.as=acme/swept", "--publish", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["steps"] == 2
    assert [trial["changes"]["lora.rank"] for trial in told["trials"]] == ["1", "2"]
    assert told["folder"] == told["trials"][0]["folder"] == "swept/trial-1"
    assert told["version"] == "acme/swept@v1"
    assert "lr=1e-4" in (place / "swept" / "sweep.html").read_text()


def test_a_run_that_was_killed_goes_on_when_the_same_command_runs_again(run: Run, place: Path) -> None:
    command = ["train", "router.toml", "--set", "training.checkpoint_every_steps=2"]
    command += ["--set", "training.steps=40"]
    process = subprocess.Popen([*HOTSHOE, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        killed = _begun(place / "runs", process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = run(*command, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["folder"] == f"runs/{killed}"
    assert not list((place / "runs").glob(".*.run"))


def test_a_run_goes_on_only_where_it_was_the_same_one(run: Run, place: Path) -> None:
    left = place / "runs" / ".router-20260101-000000.run"
    left.mkdir(parents=True)
    (left / "inputs.sha256").write_text("0" * 64)
    said = refusal(run("train", "router.toml", "--set", "training.checkpoint_every_steps=2"))
    assert "unfinished run with other config or data" in said
    shutil.rmtree(left)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--sweep", "r=2", "--plan"), "--plan is about one run"),
        (("--sweep", "r=2", "--if-changed"), "--if-changed is about one run"),
        (("--sweep", "r=2", "--set", "lora.rank=4"), "lora.rank is swept and set"),
        (("--sweep", "r=2", "--sweep", "lora.rank=4"), "names lora.rank twice"),
        (("--sweep", "r=0"), "lora.rank"),
        (("--sweep", "speed=1"), "unknown key"),
        (("--set", "lora.rankk=4"), "did you mean 'rank'?"),
        (("r=2",), "r=2 follows no --sweep"),
        (("--set", "rank"), "is not KEY=VALUE"),
        (("--set", "publish.as=router", "--publish"), "names no adapter"),
    ],
)
def test_options_that_make_no_sense_are_wrong_use(run: Run, options: tuple[str, ...], said: str) -> None:
    assert said in refusal(run("train", "router.toml", *options))


def test_several_processes_are_told_where_to_write(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "name it with --out" in refusal(run("train", "router.toml"))
    swept = run("train", "router.toml", "--sweep", "r=2", "--out", "both")
    assert "a sweep runs in one process" in refusal(swept)


def _begun(runs: Path, process: subprocess.Popen[bytes]) -> str:
    """The name of the folder of a run that has written a checkpoint."""
    for _ in range(2400):
        if found := list(runs.glob(".router-*.run/checkpoint-*/trainer_state.json")):
            return found[0].parts[-3].removeprefix(".").removesuffix(".run")
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError("no checkpoint was ever written")
