"""Two processes on this machine's CPUs train one adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.routing import config

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.adapter.manifest import Manifest
from hotshoe.train.result import TrainResult
from hotshoe.train.run import train

STEPS = {"steps": 6, "learning_rate": 1e-2, "threads": 1}

RUN = """
import json, sys
from pathlib import Path
from torch import distributed
from hotshoe.train.config import TrainConfig
from hotshoe.train.run import train
raw, folder, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
result = train(TrainConfig.parse(raw, folder=folder), out=out)
told = [result.losses, result.adapter["loss"], distributed.is_initialized()]
(out.parent / "told.json").write_text(json.dumps(told))
"""

# accelerate 1.15 shards on GPUs only. torch itself shards on CPUs, too, once accelerate takes them for GPUs.
SHARD_ON_CPUS = """
from accelerate.state import PartialState
from accelerate.utils import DistributedType
begin = PartialState.__init__
def as_if_on_gpus(self, *args, **kwargs):
    begin(self, *args, **kwargs)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self.distributed_type = DistributedType.MULTI_GPU
PartialState.__init__ = as_if_on_gpus
"""

TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ACCELERATE = [
    *("accelerate.commands.launch", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"),
    *("--dynamo_backend=no", "--use_fsdp", "--fsdp_version=2", "--fsdp_state_dict_type=FULL_STATE_DICT"),
    *("--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP", "--main_process_port=0"),
    "--fsdp_transformer_layer_cls_to_wrap=LlamaDecoderLayer",
]


@pytest.fixture(scope="module")
def alone(tiny_base: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """What one process learns from as many rows a step."""
    return train(
        config(tiny_base, folder, training=STEPS | {"batch_rows": 8}),
        out=tmp_path_factory.mktemp("alone") / "out",
    )


@pytest.mark.parametrize(
    ("launcher", "before"), [(TORCHRUN, ""), (ACCELERATE, SHARD_ON_CPUS)], ids=["ddp", "fsdp"]
)
def test_two_processes_learn_what_one_learns_with_twice_the_rows(
    tiny_base: Path, folder: Path, tmp_path: Path, alone: TrainResult, launcher: list[str], before: str
) -> None:
    (tmp_path / "run.py").write_text(before + RUN)
    raw = {
        "base": str(tiny_base),
        "data": {"train": "train.jsonl", "heldout": "heldout.jsonl"},
        "training": STEPS | {"batch_rows": 4},
        "evaluation": {"metrics": ["exact"], "max_new_tokens": 12},
        "publish": {"as": "acme/router"},
    }
    arguments = [str(tmp_path / "run.py"), json.dumps(raw), str(folder), str(tmp_path / "both")]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"ACCELERATE_USE_CPU": "true"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    losses, heldout, together = json.loads((tmp_path / "told.json").read_text())
    assert not together
    assert losses == pytest.approx(alone.losses, rel=1e-3)
    assert heldout == pytest.approx(alone.adapter["loss"], rel=1e-2)
    manifest = Manifest.parse((tmp_path / "both" / ".hotshoe" / "manifest.json").read_bytes())
    assert manifest.rank == alone.manifest.rank
    assert manifest.training["trainable_parameters"] == alone.manifest.training["trainable_parameters"]


@pytest.mark.parametrize(
    ("version", "tables", "said"),
    [
        ("1", {}, "--fsdp_version 2"),
        ("2", {"recipe": "full"}, "only sft and pretrain"),
        ("2", {"quantize": "nf4"}, "none in few bits"),
        ("2", {"lora": {"init": "pissa"}}, "changes the base's weights"),
        ("2", {"training": {"checkpoint_every_steps": 2}}, "leave training.check_every_steps"),
        ("2", {}, "shards on GPUs only"),
    ],
)
def test_what_a_sharded_base_cannot_do_is_refused(
    tiny_base: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    tables: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", version)
    quick = {"data": {"train": "train.jsonl"}, "training": {"steps": 1, "threads": 1}}
    with pytest.raises(InvalidConfig, match=said):
        train(config(tiny_base, folder, **(quick | tables)), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("pass", "said\n"),
        ("sys.stdout = None", "said\n"),
        ("os.dup2(os.open(os.devnull, os.O_RDONLY), 1)", ""),
    ],
    ids=["plain", "replaced", "nobody listens"],
)
def test_a_process_that_leaves_runs_nothing_more_and_says_all_it_can(before: str, said: str) -> None:
    leaving = "import atexit, os, sys; from hotshoe.train.processes import leave; atexit.register(os.abort)"
    done = subprocess.run(
        [sys.executable, "-c", f"{leaving}; print('said'); {before}; leave()"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert (done.returncode, done.stdout) == (0, said)
