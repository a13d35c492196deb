"""What adapters cost while prompts are read: 8 prompts of 128 tokens, each with its own adapter."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import models
from benchmarks.engines import add, answer, prompts, vllm_engine
from benchmarks.harness import Arm, Group, Sample, at_least, in_turns
from benchmarks.streams import at_once
from hotshoe.serve.engine import Engine, EngineAdapter

ROUNDS = 5
PROMPTS, PROMPT_TOKENS = 8, 128


async def measure(rounds: int) -> Group:
    """Both engines stay up; their arms take turns."""
    base = models.smollm2()
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders = [models.make_adapter(scratch / f"a{n}", base, seed=n) for n in range(PROMPTS)]
        ours = await stack.enter_async_context(vllm_engine(base))
        stock = await stack.enter_async_context(vllm_engine(base, stock=True))
        series = await in_turns(
            {
                "base": _arm(ours, ()),
                "8 adapters": _arm(ours, await add(ours, folders)),
                "stock, 8 adapters": _arm(stock, await add(stock, folders)),
            },
            rounds,
        )
    rate = "tokens/s"
    return Group(
        name="prefill",
        title="LoRA while reading prompts, CPU",
        setting=f"SmolLM2-135M float32, {PROMPTS} prompts of {PROMPT_TOKENS} tokens that no cache knows, "
        "each with its own adapter of rank 16; one token is generated.",
        rows=[
            series.row(
                "8 adapters over the base alone",
                rate,
                rate,
                arm="8 adapters",
                peer="base",
                goal=at_least(0.85),
            ),
            series.row(
                "8 adapters over stock vLLM's 8 adapters",
                rate,
                rate,
                arm="8 adapters",
                peer="stock, 8 adapters",
                goal=at_least(5),
            ),
        ],
    )


def _arm(engine: Engine, adapters: Sequence[EngineAdapter]) -> Arm:
    seeds = itertools.count()

    async def run() -> Sample:
        asked = prompts(PROMPTS, PROMPT_TOKENS, engine.facts.vocabulary, seed=next(seeds))
        traces = await at_once(
            lambda n: answer(engine, asked[n], 1, adapters[n] if adapters else None), PROMPTS
        )
        span = max(trace.last for trace in traces) - min(trace.asked for trace in traces)
        return {"tokens/s": PROMPTS * PROMPT_TOKENS / span}

    return run
