"""Base answers beside full slots: how many differ from the base alone, here and in stock vLLM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from benchmarks.engines import Loaded, prompts
from benchmarks.harness import Group, Row, Spread, at_most
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.wire.values import Sampling

QUESTIONS, ANSWER_TOKENS = 20, 12


async def measure(ours: Loaded, stock: Loaded) -> Group:
    """Greedy tokens, so one round says it all."""
    arms = {"hotshoe": ours, "stock": stock}
    wrong = {
        name: Spread.of([await _wrong_answers(each.engine, each.adapters)]) for name, each in arms.items()
    }
    return Group(
        name="isolation",
        title="Base answers in a batch with adapters",
        setting=f"SmolLM2-135M, {QUESTIONS} questions to the base beside {len(ours.adapters)} adapters in "
        "every slot.",
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
