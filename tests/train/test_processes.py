"""Two processes on this machine's CPUs train one adapter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.routing import config

from hotshoe.adapter.manifest import Manifest
from hotshoe.train.run import train

STEPS = {"steps": 6, "learning_rate": 1e-2, "threads": 1}

RUN = """
import json, sys
from pathlib import Path
from hotshoe.train.config import TrainConfig
from hotshoe.train.run import train
raw, folder, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
result = train(TrainConfig.parse(raw, folder=folder), out=out)
(out.parent / "losses.json").write_text(json.dumps(result.losses))
"""


def test_two_processes_learn_what_one_learns_with_twice_the_rows(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    alone = train(
        config(tiny_base, folder, data={"train": "train.jsonl"}, training=STEPS | {"batch_rows": 8}),
        out=tmp_path / "alone",
    )
    (tmp_path / "run.py").write_text(RUN)
    raw = {
        "base": str(tiny_base),
        "data": {"train": "train.jsonl"},
        "training": STEPS | {"batch_rows": 4},
        "publish": {"as": "acme/router"},
    }
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [str(tmp_path / "run.py"), json.dumps(raw), str(folder), str(tmp_path / "both")]
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    losses = json.loads((tmp_path / "losses.json").read_text())
    assert losses == pytest.approx(alone.losses, rel=1e-3)
    manifest = Manifest.parse((tmp_path / "both" / ".hotshoe" / "manifest.json").read_bytes())
    assert manifest.training["trainable_parameters"] == alone.manifest.training["trainable_parameters"]
