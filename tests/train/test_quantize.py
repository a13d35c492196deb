from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.routing import config

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.run import train


@pytest.mark.parametrize("bits", ["nf4", "int8"])
def test_a_base_in_few_bits_learns_and_leaves_a_plain_adapter(
    tiny_base: Path, folder: Path, tmp_path: Path, bits: str
) -> None:
    result = train(config(tiny_base, folder, quantize=bits), out=tmp_path / "out")
    assert result.adapter["exact"] > 0.8
    assert result.manifest.training["config"]["quantize"] == bits


def test_without_bitsandbytes_it_is_said_what_to_install(
    tiny_base: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python's own way to say that a module is not there.
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InvalidConfig, match=r"hotshoe\[quantize\]"):
        train(config(tiny_base, folder, quantize="nf4"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("recipe", ["full", "merge"])
def test_recipes_that_need_the_own_weights_of_the_base_refuse(
    tiny_base: Path, folder: Path, recipe: str
) -> None:
    merge = {"sources": ["acme/a", "acme/b"]} if recipe == "merge" else {}
    data = {"heldout": "heldout.jsonl"} if recipe == "merge" else {"train": "train.jsonl"}
    with pytest.raises(InvalidConfig, match="needs the base's own weights"):
        config(tiny_base, folder, recipe=recipe, quantize="nf4", merge=merge, data=data)
