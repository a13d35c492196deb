"""Answers with structures on an engine with a small KV cache, in both ways that vLLM plans its steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client
import psutil
import pytest
from support.engines import tokens

from hotshoe.adapter.manifest import Base
from hotshoe.serve.engine import EngineChunk
from hotshoe.wire.structure import Grammar
from hotshoe.wire.values import Sampling

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

PROMPT = "Dear support, my invoice"
BLOCK_BYTES = 128 << 10
"""Of 128 tokens of the tiny base: 2 layers, keys and values, 2 heads of 32 float32 each."""

CONTEXT_TOKENS = 256
LONG = Sampling(temperature=0, max_tokens=CONTEXT_TOKENS - 32, ignore_eos=True)


@pytest.fixture(scope="module", params=[False, True], ids=["step by step", "a step ahead"])
async def small_engine(request: pytest.FixtureRequest, tiny_base: Path) -> AsyncIterator[VllmEngine]:
    """Four blocks: two long answers fill them. Planning ahead is what vLLM does on a GPU."""
    from vllm.platforms.cpu import CpuPlatform

    from hotshoe.serve.vllm_config import VllmConfig
    from hotshoe.serve.vllm_engine import start_vllm_engine

    chosen = CpuPlatform.check_and_update_config

    def plan(vllm_config: Any) -> None:
        chosen(vllm_config)
        vllm_config.scheduler_config.async_scheduling = request.param  # On a CPU it is always off.

    config = VllmConfig(
        folder=tiny_base,
        base=Base(repo="tiny", revision="", digest="0" * 64),
        slots=1,
        max_rank=8,
        cached_adapters=1,
        context_tokens=CONTEXT_TOKENS,
        kv_cache_bytes=5 * BLOCK_BYTES,  # vLLM keeps one for itself.
        max_sequences=8,
        step_tokens=256,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuPlatform, "check_and_update_config", staticmethod(plan))
        engine = await start_vllm_engine(config)
    assert engine._llm.vllm_config.max_concurrent_batches == (2 if request.param else 1)
    yield engine
    await engine.close()


def preemptions() -> float:
    """How many answers have made room, by all engines of this process."""
    families = prometheus_client.REGISTRY.collect()
    samples = (each for family in families for each in family.samples)
    return sum(each.value for each in samples if each.name == "vllm:num_preemptions_total")


def structures() -> list[psutil.Process]:
    """The processes of the structures in use below this one."""
    found = psutil.Process().children(recursive=True)
    living = [each for each in found if each.status() != psutil.STATUS_ZOMBIE]
    zygotes = {each.pid for each in living if "hotshoe.serve.structures.zygote" in each.cmdline()}
    return [each for each in living if each.ppid() in zygotes]


async def rest(stream: AsyncGenerator[EngineChunk, None]) -> int:
    """How many tokens are still to come."""
    return sum([len(chunk.token_ids) async for chunk in stream])


async def test_an_answer_that_made_room_comes_back_when_its_structure_knows_what_may_come(
    small_engine: VllmEngine,
) -> None:
    grammar = 'root ::= "ab" root | "."'
    sampling = Sampling(temperature=0, max_tokens=60, ignore_eos=True, structure=Grammar(grammar))
    before, others = preemptions(), structures()
    whole = await tokens(small_engine, PROMPT, sampling=sampling)
    (process,) = set(structures()) - set(others)

    prompt = small_engine.encode_text(PROMPT)
    streams = [small_engine.generate(f"long-{n}", prompt, LONG, None) for n in range(2)]
    first = await asyncio.gather(*(anext(each) for each in streams))  # Now they hold their blocks.
    long = [asyncio.ensure_future(rest(each)) for each in streams]
    stream = small_engine.generate("preempted", prompt, sampling, None)
    found = [token for _ in range(4) for token in (await anext(stream)).token_ids]
    process.suspend()
    try:
        await asyncio.wait(long)  # They take its room, and leave it again.
        await asyncio.sleep(0.5)
    finally:
        process.resume()
    found += [token async for chunk in stream for token in chunk.token_ids]

    assert preemptions() > before
    assert tuple(found) == whole
    lengths = [len(chunk.token_ids) + each.result() for chunk, each in zip(first, long, strict=True)]
    assert lengths == [LONG.max_tokens] * 2


async def test_answers_of_many_structures_keep_to_their_own_while_they_take_room_from_each_other(
    small_engine: VllmEngine,
) -> None:
    async def answer(letter: str, seed: int) -> str:
        structure = Grammar(f'root ::= "{letter}" root | "{letter}."')
        sampling = Sampling(temperature=1.0, seed=seed, max_tokens=150, ignore_eos=True, structure=structure)
        prompt = small_engine.encode_text(PROMPT)
        stream = small_engine.generate(f"{letter}-{seed}", prompt, sampling, None)
        return "".join([chunk.text async for chunk in stream])

    found = await asyncio.gather(*(answer("abcd"[n % 4], n) for n in range(16)))
    for n, text in enumerate(found):
        written, _, _ = text.partition(".")  # After the end anything may come.
        assert written == "abcd"[n % 4] * len(written)
        assert written
