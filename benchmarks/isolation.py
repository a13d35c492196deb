"""Base answers beside full slots: how many differ from the base alone, here and in stock vLLM."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import models
from benchmarks.engines import add, prompts, vllm_engine
from benchmarks.harness import Group, Row, Spread, at_most
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.wire.values import Sampling

ROUNDS = 1
ADAPTERS, QUESTIONS, ANSWER_TOKENS = 8, 20, 12


async def measure(rounds: int) -> Group:
    """Greedy tokens, so one round says it all."""
    base = models.smollm2()
    wrong: dict[str, Spread] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = [models.make_adapter(Path(scratch) / f"a{n}", base, seed=n) for n in range(ADAPTERS)]
        for name, stock in (("hotshoe", False), ("stock", True)):
            async with vllm_engine(base, stock=stock) as engine:
                wrong[name] = Spread.of([await _wrong_answers(engine, await add(engine, folders))])
    return Group(
        name="isolation",
        title="Base answers in a batch with adapters",
        setting=f"SmolLM2-135M, {QUESTIONS} questions to the base beside {ADAPTERS} adapters in every slot.",
        rows=[
            Row(
                f"base answers of {QUESTIONS} that differ from those of the base alone",
                wrong,
                "answers",
                wrong["hotshoe"],
                result_unit="",
                goal=at_most(0),
            )
        ],
    )


async def _wrong_answers(engine: Engine, adapters: Sequence[EngineAdapter]) -> int:
    import asyncio

    asked = prompts(QUESTIONS, 8, engine.facts.vocabulary, seed=1)
    others = prompts(len(adapters), 8, engine.facts.vocabulary, seed=2)
    alone = [await _tokens(engine, each, None) for each in asked]
    mixed = await asyncio.gather(
        *(_tokens(engine, prompt, adapter) for prompt, adapter in zip(others, adapters, strict=True)),
        *(_tokens(engine, each, None) for each in asked),
    )
    return sum(a != b for a, b in zip(alone, mixed[len(adapters) :], strict=True))


async def _tokens(engine: Engine, prompt: Sequence[int], adapter: EngineAdapter | None) -> list[int]:
    sampling = Sampling(temperature=0, max_tokens=ANSWER_TOKENS, ignore_eos=True)
    found: list[int] = []
    name = f"bench-{id(prompt)}-{adapter.id if adapter else 0}"
    async with contextlib.aclosing(engine.generate(name, tuple(prompt), sampling, adapter)) as chunks:
        async for chunk in chunks:
            found.extend(chunk.token_ids)
    return found
