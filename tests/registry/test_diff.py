from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.lora import CONFIG, Tensors, tensors, write_adapter

from hotshoe.adapter.errors import Unservable
from hotshoe.adapter.manifest import Base, FileEntry, Manifest
from hotshoe.registry.diff import Change, diff, diff_weights

MANIFEST = Manifest(
    adapter="acme/support",
    base=Base("tiny", "", "0" * 64),
    rank=4,
    alpha=8.0,
    targets=("q_proj",),
    files=(FileEntry("adapter_model.safetensors", 10, "1" * 64),),
    training={"recipe": "sft", "data": {"sha256": "a", "rows": 150}},
    metrics={"exact": 0.5},
)
MODULE = "model.layers.0.self_attn.q_proj"
A, B = (f"base_model.model.{MODULE}.lora_{side}.weight" for side in "AB")


def dense(made: Tensors, scale: float = 2.0) -> np.ndarray[Any, Any]:
    return scale * made[B].astype(np.float64) @ made[A].astype(np.float64)


def test_the_norms_are_those_of_the_dense_products(tmp_path: Path) -> None:
    one, two = tensors(seed=1), tensors(seed=2, rank=8)
    old = write_adapter(tmp_path / "old", weights=one)
    new = write_adapter(tmp_path / "new", weights=two, config=CONFIG | {"r": 8, "use_rslora": True})
    [found] = [change for change in diff_weights(old, new) if change.module == MODULE]
    scale = 8 / np.sqrt(8)
    assert found.before == pytest.approx(np.linalg.norm(dense(one)))
    assert found.after == pytest.approx(np.linalg.norm(dense(two, scale)))
    assert found.change == pytest.approx(np.linalg.norm(dense(two, scale) - dense(one)))


@settings(deadline=None, max_examples=30)
@given(rank=st.integers(1, 40), size=st.floats(1e-6, 1.0), seed=st.integers(0, 99))
def test_a_small_change_is_not_lost_in_rounding(
    tmp_path_factory: pytest.TempPathFactory, rank: int, size: float, seed: int
) -> None:
    place = tmp_path_factory.mktemp("diff")
    one = tensors(rank=rank, seed=seed)
    two = one | {B: (one[B] * np.float32(1 + size)).astype(np.float32)}
    config = CONFIG | {"r": rank, "lora_alpha": rank}
    old = write_adapter(place / "old", weights=one, config=config)
    new = write_adapter(place / "new", weights=two, config=config)
    found = {change.module: change.change for change in diff_weights(old, new)}
    expected = np.linalg.norm(dense(two, 1) - dense(one, 1))
    assert found[MODULE] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert sum(found.values()) == found[MODULE]


def test_the_same_weights_in_other_factors_are_no_change(tmp_path: Path) -> None:
    one = tensors()
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    two = one | {A: turn @ one[A].astype(np.float64), B: one[B].astype(np.float64) @ turn.T}
    old, new = write_adapter(tmp_path / "old", weights=one), write_adapter(tmp_path / "new", weights=two)
    assert max(change.relative for change in diff_weights(old, new)) < 1e-7


def test_a_module_that_only_one_side_touches_moved_by_all_it_has(tmp_path: Path) -> None:
    attention = {name: value for name, value in tensors().items() if "q_proj" in name}
    old = write_adapter(tmp_path / "old", weights=attention)
    new = write_adapter(tmp_path / "new")
    found = {change.module: change for change in diff_weights(old, new)}
    added = found["model.layers.1.mlp.down_proj"]
    assert (added.before, added.change) == (0.0, added.after)
    assert found[MODULE].change == 0
    assert next(iter(found)).endswith("down_proj")


def test_every_fact_that_differs_is_told_by_its_name(tmp_path: Path) -> None:
    old = write_adapter(tmp_path / "old")
    new = write_adapter(
        tmp_path / "new", config=CONFIG | {"lora_dropout": 0.1, "target_modules": ["down_proj", "q_proj"]}
    )
    after = replace(
        MANIFEST,
        files=(FileEntry("adapter_model.safetensors", 10, "2" * 64),),
        training={"recipe": "sft", "data": {"sha256": "b", "rows": 150}},
        metrics={"exact": 0.75, "json": 1.0},
        parent="acme/support@v1",
    )
    found = diff((MANIFEST, old), (after, new))
    assert found.facts == (Change("parent", None, "acme/support@v1"),)
    assert found.config == (Change("lora_dropout", None, 0.1),)
    assert found.training == (Change("data.sha256", "a", "b"),)
    assert found.metrics == (Change("exact", 0.5, 0.75), Change("json", None, 1.0))
    assert [change.name for change in found.files] == ["adapter_model.safetensors"]
    assert not found.same


def test_a_version_is_the_same_as_itself(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    assert diff((MANIFEST, folder), (MANIFEST, folder)).same


def test_adapters_of_different_bases_cannot_be_compared(tmp_path: Path) -> None:
    other = {name: np.tile(value, (1, 2)) if name == A else value for name, value in tensors().items()}
    old, new = write_adapter(tmp_path / "old"), write_adapter(tmp_path / "new", weights=other)
    with pytest.raises(Unservable, match="different bases"):
        diff_weights(old, new)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_broken_folder_is_unservable(tmp_path: Path, name: str) -> None:
    old, new = write_adapter(tmp_path / "old"), write_adapter(tmp_path / "new")
    (new / name).write_bytes(b"{")
    with pytest.raises(Unservable, match=name):
        diff_weights(old, new)
