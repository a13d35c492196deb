"""Versions that continue from a version, through a real registry."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.routing import config

from hotshoe.adapter.errors import AliasNotFound, BaseMismatch
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import Registry, open_registry
from hotshoe.train.config import TrainConfig
from hotshoe.train.result import TrainResult
from hotshoe.train.run import train

ROUTER = AdapterName("acme", "router")


@pytest.fixture(scope="module")
def registry(result: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with open_registry(str(tmp_path_factory.mktemp("registry"))) as registry:
        version = registry.publish(result.folder, ROUTER)
        registry.promote(ROUTER, "prod", version.number)
        yield registry


def continued(base: Path, folder: Path, parent: str) -> TrainConfig:
    training = {"steps": 2, "batch_rows": 4, "learning_rate": 1e-3, "threads": 1}
    return config(base, folder, parent=parent, training=training, data={"train": "train.jsonl"})


def test_a_run_with_a_parent_begins_where_the_parent_ended(
    registry: Registry, result: TrainResult, tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    second = train(continued(tiny_base, folder, "acme/router@prod"), out=tmp_path / "v2", parents=registry)
    assert second.losses[0] < result.losses[0] / 4
    assert second.manifest.parent == "acme/router@v1"
    assert second.manifest.targets == result.manifest.targets
    assert registry.publish(second.folder, ROUTER).number == 2


def test_a_parent_sits_the_exam_beside_base_and_adapter_where_it_is_asked_to(
    registry: Registry, result: TrainResult, tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    training = {"steps": 2, "batch_rows": 4, "learning_rate": 1e-3, "threads": 1}
    chosen = config(
        tiny_base, folder, parent="acme/router@prod", training=training, gates=["loss <= parent + 0.1"]
    )
    second = train(chosen, out=tmp_path / "v2", parents=registry)
    assert second.figures["parent"]["loss"] == pytest.approx(result.adapter["loss"], rel=1e-3)
    assert second.figures["parent"]["exact"] == result.adapter["exact"]
    assert second.samples[0].answers.keys() == {"base", "parent", "adapter"}
    (gate,) = second.gates
    assert (gate.passed, gate.facts()["limit"]) == (
        True,
        pytest.approx(second.figures["parent"]["loss"] + 0.1),
    )


def test_a_parent_that_the_registry_lacks_is_refused(
    registry: Registry, tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(AliasNotFound):
        train(continued(tiny_base, folder, "acme/router@canary"), out=tmp_path / "v2", parents=registry)


def test_a_parent_on_another_base_is_refused(
    result: TrainResult, tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
    theirs = dataclasses.replace(result.manifest.base, digest="f" * 64)
    foreign = shutil.copytree(result.folder, tmp_path / "foreign")
    manifest = dataclasses.replace(result.manifest, base=theirs)
    (foreign / ".hotshoe" / "manifest.json").write_bytes(manifest.canonical())
    with open_registry(str(tmp_path / "registry")) as registry:
        registry.publish(foreign, ROUTER)
        with pytest.raises(BaseMismatch, match="parent acme/router@v1 was trained on"):
            train(continued(tiny_base, folder, "acme/router@v1"), out=tmp_path / "v2", parents=registry)
