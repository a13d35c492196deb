"""Engines inside the benchmark's own process: Hotshoe's, and stock vLLM in the same place."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.streams import Answer
from hotshoe.registry import BaseModel
from hotshoe.serve import lora_cpu
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.serve.vllm_config import VllmConfig
from hotshoe.wire.values import Sampling

_ids = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An engine with adapters in it."""

    engine: Engine
    adapters: Sequence[EngineAdapter]


@contextlib.asynccontextmanager
async def vllm_engine(base: BaseModel, *, stock: bool = False, **settings: Any) -> AsyncIterator[Engine]:
    """vLLM with Hotshoe's LoRA operators and schedulers, or as it comes; the same settings in both cases."""
    from hotshoe.serve.vllm_engine import start_vllm_engine

    before = os.environ.pop(lora_cpu.SWITCH, None)
    if stock:
        os.environ[lora_cpu.SWITCH] = lora_cpu.STOCK
    try:
        engine = await start_vllm_engine(VllmConfig(folder=base.folder, base=base.base, **settings))
    finally:
        os.environ.pop(lora_cpu.SWITCH, None)
        if before is not None:
            os.environ[lora_cpu.SWITCH] = before
    try:
        yield engine
    finally:
        await engine.close()


async def add(engine: Engine, folders: Sequence[Path]) -> list[EngineAdapter]:
    """Load adapters."""
    adapters = [fresh(folder) for folder in folders]
    for adapter in adapters:
        await engine.add(adapter)
    return adapters


def fresh(folder: Path) -> EngineAdapter:
    """The adapter in `folder` under a name and an id that were never used."""
    number = next(_ids)
    return EngineAdapter(name=f"bench/{folder.name}@{number}", id=number, folder=folder)


async def answer(
    engine: Engine, prompt: Sequence[int], tokens: int, adapter: EngineAdapter | None = None
) -> Answer:
    """A greedy answer of exactly `tokens` tokens."""
    sampling = Sampling(temperature=0, max_tokens=tokens, ignore_eos=True)
    async with contextlib.aclosing(
        engine.generate(f"bench-{next(_ids)}", tuple(prompt), sampling, adapter)
    ) as chunks:
        async for chunk in chunks:
            yield len(chunk.token_ids)


def prompts(count: int, length: int, vocabulary: int, *, seed: int) -> list[tuple[int, ...]]:
    """Random prompts, none of which the prefix cache has seen under another seed."""
    import numpy as np

    drawn = np.random.default_rng(seed).integers(100, vocabulary, (count, length))
    return [tuple(int(token) for token in row) for row in drawn]
