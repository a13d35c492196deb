"""A death at any step of a change leaves the whole change or nothing, and sending it again completes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTHING: dict[str, object] = {"versions": [], "prod": None, "log": 0}
ONE = {"versions": [1], "prod": None, "log": 1}
TWO = {"versions": [1, 2], "prod": None, "log": 2}
COLLECTED = {"versions": [2], "prod": None, "log": 3}
PROMOTED = {"versions": [1], "prod": 1, "log": 2}


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [("first", NOTHING, ONE), ("next", ONE, TWO), ("promote", ONE, PROMOTED), ("collect", TWO, COLLECTED)],
)
def test_a_process_killed_at_any_step_leaves_all_or_nothing(
    change: str, before: object, after: object, tmp_path: Path
) -> None:
    lives = killed_at_each_step(change, tmp_path)
    for life in lives:
        assert life["found"] in (before, after)
        assert life["retried"] == after
    assert (lives[0]["found"], lives[-1]["found"]) == (before, after)


def test_a_mirror_killed_anywhere_leaves_whole_versions_and_the_next_one_completes_it(
    tmp_path: Path,
) -> None:
    begun = {"versions": [1, 2], "prod": 1, "log": 3}
    whole = {"versions": [1, 2], "prod": 2, "log": 4}
    # Most of its many steps only read.
    lives = killed_at_each_step("mirror", tmp_path, stride=4)
    for life in lives:
        assert life["found"] in (NOTHING, ONE, TWO, begun, whole)
        assert life["retried"] == whole
    assert (lives[0]["found"], lives[-1]["found"]) == (NOTHING, whole)


def killed_at_each_step(change: str, tmp_path: Path, stride: int = 1) -> list[dict[str, object]]:
    """What each death left behind, and at the end what the child left that came through."""
    tests = Path(__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-m", "support.crashing", str(tmp_path), change, str(stride)],
        env={**os.environ, "PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    *deaths, survivor = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(deaths) >= 5
    assert not survivor["killed"]
    assert all(death["killed"] for death in deaths)
    return [*deaths, survivor]
