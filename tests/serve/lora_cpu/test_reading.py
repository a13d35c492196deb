"""Adapters read straight into the operators' layout: what the file holds, or left to vLLM, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.lora import name_of, tensors, write_adapter

from hotshoe.serve.lora_cpu.reading import AdapterFile
from hotshoe.serve.lora_cpu.weights import LayerWeights, pack

ATTENTION = ("q_proj", "k_proj", "v_proj")


def plain(name: str) -> tuple[int, float]:
    return 4, 2.0


def module(layer: int, target: str) -> str:
    return name_of(layer, target, "A").removeprefix("base_model.model.").removesuffix(".lora_A.weight")


def read(folder: Path, layer: int, *targets: str | None) -> LayerWeights:
    file = AdapterFile.open(folder, plain)
    assert file is not None
    with file:
        return file.read([None if each is None else file.modules[module(layer, each)] for each in targets])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    "targets", [("q_proj",), ATTENTION, ("q_proj", None, "v_proj"), (None, "k_proj", None)]
)
def test_a_layer_is_what_packing_its_tensors_gives(
    tmp_path: Path, dtype: Any, targets: tuple[str | None, ...]
) -> None:
    made = {name: each.astype(dtype) for name, each in tensors(targets=ATTENTION).items()}
    write_adapter(tmp_path, weights=made)

    def stored(target: str | None, side: str, scale: float) -> torch.Tensor | None:
        if target is None:
            return None
        return torch.from_numpy(made[name_of(1, target, side)].astype(np.float32) * scale)

    expected = pack([stored(each, "A", 1) for each in targets], [stored(each, "B", 2) for each in targets])
    assert expected is not None
    found = read(tmp_path, 1, *targets)

    assert torch.equal(found.a, expected.a)
    assert [index for index, _ in found.parts] == [index for index, _ in expected.parts]
    for (_, mine), (_, theirs) in zip(found.parts, expected.parts, strict=True):
        assert torch.equal(mine, theirs)
        assert mine.is_contiguous()
    assert (found.where[2] == expected.where[2]).all()
    for (index, part), row in zip(found.parts, np.cumsum([0, *found.ranks[:-1]]), strict=True):
        assert found.where[0, index] == found.a[row:].data_ptr()
        assert found.where[1, index] == part.data_ptr()


def test_brain_floats_are_the_upper_halves_of_floats(tmp_path: Path) -> None:
    made = tensors(targets=("q_proj",))
    halves = {name: (each.view(np.uint32) >> 16).astype(np.uint16) for name, each in made.items()}
    write_adapter(tmp_path, weights=halves)

    found = read(tmp_path, 0, "q_proj")

    wanted = (halves[name_of(0, "q_proj", "A")].astype(np.uint32) << 16).view(np.float32)
    assert (found.a.numpy() == wanted).all()


def test_a_large_adapter_is_read_as_a_small_one_is(tmp_path: Path) -> None:
    """From two megabytes on its memory comes in large pages."""
    random = np.random.default_rng(1)
    a = random.normal(size=(64, 8192)).astype(np.float32)
    b = random.normal(size=(8192, 64)).astype(np.float32)
    stem = "base_model.model.model.layers.0.mlp.down_proj"
    write_adapter(tmp_path, weights={f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b})

    file = AdapterFile.open(tmp_path, lambda name: (64, 0.5))
    assert file is not None
    with file:
        found = file.read([file.modules["model.layers.0.mlp.down_proj"]])

    assert (found.a.numpy() == a).all()
    assert (found.parts[0][1].numpy() == b.T * np.float32(0.5)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["A", "B"])
def test_numbers_that_are_none_are_refused_by_the_names_of_their_modules(
    tmp_path: Path, side: str, value: float
) -> None:
    made = tensors(targets=ATTENTION)
    made[name_of(1, "k_proj", side)][0, 3] = value
    write_adapter(tmp_path, weights=made)

    read(tmp_path, 0, *ATTENTION)
    with pytest.raises(ValueError, match=r"k_proj.* hold NaN or infinite numbers"):
        read(tmp_path, 1, *ATTENTION)


def test_what_scaling_makes_infinite_is_refused(tmp_path: Path) -> None:
    made = tensors(targets=("q_proj",))
    made[name_of(0, "q_proj", "B")][:] = 3e38
    write_adapter(tmp_path, weights=made)

    with pytest.raises(ValueError, match="NaN or infinite"):
        read(tmp_path, 0, "q_proj")


def test_a_file_that_was_cut_off_meanwhile_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path, weights=tensors(targets=("q_proj",)))
    file = AdapterFile.open(tmp_path, plain)
    assert file is not None
    weights = tmp_path / "adapter_model.safetensors"
    with weights.open("r+b") as cut:
        cut.truncate(weights.stat().st_size - 100)

    with file, pytest.raises(ValueError, match="is cut off"):
        file.read([file.modules[module(1, "q_proj")]])


def other_name(made: dict[str, Any]) -> None:
    made["base_model.model.lm_head.lora_embedding_A"] = np.zeros((4, 8), np.float32)


def no_partner(made: dict[str, Any]) -> None:
    del made[name_of(0, "q_proj", "B")]


def other_numbers(made: dict[str, Any]) -> None:
    made[name_of(0, "q_proj", "A")] = np.zeros((4, 32), np.int8)


def more_dimensions(made: dict[str, Any]) -> None:
    made[name_of(0, "q_proj", "A")] = np.zeros((4, 32, 1), np.float32)


def twice_under_two_names(made: dict[str, Any]) -> None:
    name = name_of(0, "q_proj", "A")
    made[name.removeprefix("base_model.model.")] = made[name]


@pytest.mark.parametrize(
    "change", [other_name, no_partner, other_numbers, more_dimensions, twice_under_two_names]
)
def test_what_is_no_plain_pairs_is_left_to_vllm(tmp_path: Path, change: Any) -> None:
    made = tensors(targets=("q_proj",))
    change(made)
    write_adapter(tmp_path, weights=made)

    assert AdapterFile.open(tmp_path, plain) is None
