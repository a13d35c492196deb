from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from support.routing import config

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.run import train

# bitsandbytes packs weights in blocks of 64 for CPUs with AVX-512: every width must be a multiple of it.
EVEN_WIDTH = 384

INSTALLED = importlib.util.find_spec("bitsandbytes") is not None


@pytest.fixture(scope="module")
def even_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with another width between its layers."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = shutil.copytree(tiny_base, tmp_path_factory.mktemp("even") / "base")
    shape = AutoConfig.from_pretrained(tiny_base, intermediate_size=EVEN_WIDTH)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    return folder


@pytest.mark.skipif(not INSTALLED, reason="needs bitsandbytes: pip install 'hotshoe[quantize]'")
@pytest.mark.parametrize("bits", ["nf4", "int8"])
def test_a_base_in_few_bits_learns_and_leaves_a_plain_adapter(
    even_base: Path, folder: Path, tmp_path: Path, bits: str
) -> None:
    result = train(config(even_base, folder, quantize=bits), out=tmp_path / "out")
    assert result.adapter["exact"] > 0.8
    assert result.manifest.training["config"]["quantize"] == bits


@pytest.mark.skipif(INSTALLED, reason="bitsandbytes is installed")
def test_without_bitsandbytes_it_is_said_what_to_install(
    tiny_base: Path, folder: Path, tmp_path: Path
) -> None:
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
