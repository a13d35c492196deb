from __future__ import annotations

from pathlib import Path

import pytest

from hotshoe.train.baseline import remembered
from hotshoe.train.evaluate import Answer

TOLD = (Answer("yes", ended=True), Answer("nö", ended=False))


def test_what_was_asked_once_is_not_asked_again(tmp_path: Path) -> None:
    assert remembered("key", lambda: TOLD, folder=tmp_path) == TOLD
    assert remembered("key", lambda: pytest.fail("asked again"), folder=tmp_path) == TOLD


@pytest.mark.parametrize("broken", [b"", b"[{", b"[1]", b'[{"text": "a"}]', b"{}x"])
def test_a_broken_memory_is_asked_anew_and_mended(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "key.json").write_bytes(broken)
    assert remembered("key", lambda: TOLD, folder=tmp_path) == TOLD
    assert remembered("key", lambda: (), folder=tmp_path) == TOLD
    assert [path.name for path in tmp_path.iterdir()] == ["key.json"]


def test_a_disk_without_room_costs_the_memory_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("no folder")
    assert remembered("key", lambda: TOLD, folder=tmp_path / "memory") == TOLD
