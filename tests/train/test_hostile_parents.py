"""Versions that no run may begin from, however they came into a registry."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import broken
from support.routing import config

from hotshoe.adapter.errors import Tampered, Unservable
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.registry import open_registry
from hotshoe.registry.base import fetch_base
from hotshoe.train.config import TrainConfig
from hotshoe.train.plan import plan
from hotshoe.train.run import train

ROUTER = AdapterName("acme", "router")
VERSION = Version(ROUTER, 1, "c" * 40, "d" * 64)


@dataclass
class Careless:
    """A registry that inspected nothing: its versions are what a stranger pushed to a Hub repo."""

    folder: Path
    about: Manifest

    def version(self, ref: AdapterRef) -> Version:
        return VERSION

    def fetch(self, version: Version) -> Path:
        return self.folder

    def manifest(self, version: Version) -> Manifest:
        return self.about


def continued(base: Path, folder: Path, **tables: object) -> TrainConfig:
    return config(base, folder, parent="acme/router@v1", data={"train": "train.jsonl"}, **tables)


def stranger(base: Path, folder: Path) -> Careless:
    about = Manifest(
        adapter=str(ROUTER), base=fetch_base(str(base)).base, rank=8, alpha=16, targets=(), files=()
    )
    return Careless(folder, about)


def import_a_module(folder: Path) -> None:
    path = folder / "adapter_config.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw | {"megatron_config": {"a": 1}, "megatron_core": "antigravity"}))


def huge_rank(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"r": 10**9, "rank_pattern": {"q_proj": 10**9}})
    )


HOSTILE = (
    broken.PLAIN | broken.DEEP | {"a module to import": import_a_module, "a rank of a billion": huge_rank}
)


@pytest.mark.parametrize("wrong", HOSTILE)
def test_a_parent_that_is_no_adapter_of_the_base_is_refused_before_anything_is_built_of_it(
    tiny_base: Path, tiny_adapter: Callable[..., Path], folder: Path, tmp_path: Path, wrong: str
) -> None:
    bad = shutil.copytree(tiny_adapter("good", seed=1), tmp_path / "bad")
    HOSTILE[wrong](bad)
    with pytest.raises(Unservable, match=r"parent acme/router@v1 cannot be trained on: the adapter has"):
        plan(continued(tiny_base, folder), parents=stranger(tiny_base, bad))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exclude_modules": r"(?:[\w.]+)+!"}, "BAD_PATTERN"),
        ({"target_modules": r"(?:[\w.]+)+!"}, "COMPLEX_TARGETS"),
        ({"target_modules": "nothing"}, "PEFT builds no adapter of its config"),
        ({"layers_to_transform": [99]}, "PEFT builds no adapter of its config"),
        ({"layers_pattern": "layers"}, "PEFT builds no adapter of its config"),
        ({"init_lora_weights": "eva", "eva_config": {"rho": "x"}}, "PEFT builds no adapter of its config"),
    ],
)
def test_a_parent_of_which_peft_builds_nothing_or_without_end_is_refused(
    tiny_base: Path,
    tiny_adapter: Callable[..., Path],
    folder: Path,
    tmp_path: Path,
    changes: dict[str, object],
    said: str,
) -> None:
    bad = shutil.copytree(tiny_adapter("good", seed=1), tmp_path / "bad")
    path = bad / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(Unservable, match=f"parent acme/router@v1 cannot be trained on: (.|\n)*{said}"):
        plan(continued(tiny_base, folder), parents=stranger(tiny_base, bad))


def test_a_parent_that_names_its_targets_by_a_pattern_is_trained_on(
    tiny_base: Path, tiny_adapter: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    good = shutil.copytree(tiny_adapter("good", seed=1), tmp_path / "good")
    path = good / "adapter_config.json"
    raw = json.loads(path.read_text())
    pattern = rf".*\.({'|'.join(raw['target_modules'])})"
    path.write_text(json.dumps(raw | {"target_modules": pattern}))
    assert plan(continued(tiny_base, folder), parents=stranger(tiny_base, good)).targets == (pattern,)


def test_a_merge_refuses_such_a_source_too(
    tiny_base: Path, tiny_adapter: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    bad = shutil.copytree(tiny_adapter("good", seed=1), tmp_path / "bad")
    broken.PLAIN["NaN"](bad)
    chosen = config(
        tiny_base, folder, recipe="merge", data={}, merge={"sources": ["acme/router@v1", "acme/router@v2"]}
    )
    with pytest.raises(Unservable, match="cannot be trained on"):
        train(chosen, out=tmp_path / "out", parents=stranger(tiny_base, bad))
    assert not (tmp_path / "out").exists()


def test_a_parent_whose_bytes_were_changed_is_refused(
    tiny_base: Path, tiny_adapter: Callable[..., Path], folder: Path, tmp_path: Path
) -> None:
    with open_registry(str(tmp_path / "registry"), cache=tmp_path / "cache") as registry:
        registry.publish(tiny_adapter("good", seed=1), ROUTER, base=fetch_base(str(tiny_base)))
    weights = max((tmp_path / "registry" / "blobs").rglob("*"), key=lambda path: path.stat().st_size)
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with (
        open_registry(str(tmp_path / "registry"), cache=tmp_path / "other cache") as registry,
        pytest.raises(Tampered),
    ):
        train(continued(tiny_base, folder), out=tmp_path / "out", parents=registry)
    assert not (tmp_path / "out").exists()
