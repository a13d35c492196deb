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
    tests = Path(__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-m", "support.crashing", str(tmp_path), change],
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
    for death in deaths:
        assert death["killed"]
        assert death["found"] in (before, after)
        assert death["retried"] == after
    assert deaths[0]["found"] == before
    assert survivor["found"] == after
