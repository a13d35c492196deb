"""Adapters that the real engine loads or refuses: deep faults, one at a time and among others."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file, save_file
from support.broken import DEEP
from support.engines import as_engine_adapter, tokens

from hotshoe.adapter.errors import AdapterLoadFailed

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

pytestmark = pytest.mark.engine

PROMPT = "Dear support, my invoice"


@pytest.mark.parametrize("fault", DEEP)
async def test_an_adapter_that_vllm_would_die_of_or_take_in_silence_is_refused(
    tiny_engine: VllmEngine, tiny_adapter: Callable[..., Path], tmp_path: Path, fault: str
) -> None:
    folder = Path(shutil.copytree(tiny_adapter("good", 50), tmp_path / "broken"))
    DEEP[fault](folder)
    before = await tokens(tiny_engine, PROMPT)
    broken = as_engine_adapter(folder)

    with pytest.raises(AdapterLoadFailed, match="acme/broken") as refusal:
        await tiny_engine.add(broken)

    assert len(refusal.value.message) > len("the engine refuses acme/broken@: ") + 64 + 10  # It says why.
    assert await tokens(tiny_engine, PROMPT) == before
    assert broken.id not in await tiny_engine._llm.list_loras()


async def test_of_several_that_load_at_once_only_the_broken_one_is_refused(
    tiny_engine: VllmEngine, tiny_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_adapter("good", 50), tmp_path / "broken"))
    next(iter(DEEP.values()))(folder)
    good = [as_engine_adapter(tiny_adapter(f"beside {seed}", seed)) for seed in (77, 78, 79)]
    broken = as_engine_adapter(folder)

    ends = await asyncio.gather(
        *(tiny_engine.add(each) for each in (good[0], broken, *good[1:])), return_exceptions=True
    )

    assert [type(each) for each in ends] == [type(None), AdapterLoadFailed, type(None), type(None)]
    assert set(await tiny_engine._llm.list_loras()) >= {each.id for each in good}
    for adapter in good:
        assert await tokens(tiny_engine, PROMPT, adapter)
        await tiny_engine.remove(adapter)


async def test_a_plain_adapter_is_read_by_layers_in_slices_and_not_by_tensors_at_once(
    tiny_engine: VllmEngine, tiny_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    """Who reads by layers finds a fault in all that a layer is fused of; vLLM's way, in one tensor."""
    folder = Path(shutil.copytree(tiny_adapter("good", 50), tmp_path / "broken"))
    weights = load_file(folder / "adapter_model.safetensors")
    next(each for name, each in weights.items() if "k_proj" in name)[0, 0] = float("nan")
    save_file(weights, folder / "adapter_model.safetensors")

    with pytest.raises(AdapterLoadFailed, match=r"q_proj, .*k_proj, .*v_proj hold NaN"):
        await tiny_engine.add(as_engine_adapter(folder))
