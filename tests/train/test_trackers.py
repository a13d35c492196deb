from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _telemetry
from support.routing import config

from hotshoe.train.run import train


def test_a_run_tells_nobody_of_itself(
    tiny_base: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: None)
    monkeypatch.setattr(_telemetry._TELEMETRY_QUEUE, "put", told.append)
    train(config(tiny_base, folder, training={"steps": 1, "threads": 1}), out=tmp_path / "out")
    assert told == []
    assert constants.HF_HUB_DISABLE_TELEMETRY is False
