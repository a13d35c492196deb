from __future__ import annotations

import io

import pytest
from rich.console import Console

from hotshoe.train.progress import Terminal

HIDE_CURSOR = "\x1b[?25l"


@pytest.mark.parametrize(("rank", "shows"), [("0", True), ("1", False)])
def test_of_several_processes_only_the_first_one_draws(
    monkeypatch: pytest.MonkeyPatch, rank: str, shows: bool
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    screen = io.StringIO()
    with Terminal(Console(file=screen, force_terminal=True)) as progress:
        progress.stage("training")
        progress.step(1, 2, 0.5)
        drawn = screen.getvalue()
    assert (HIDE_CURSOR in drawn, "training" in screen.getvalue()) == (shows, shows)
