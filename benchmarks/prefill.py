"""What adapters cost while prompts are read: 8 prompts of 128 tokens, each with its own adapter."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from benchmarks.engines import Loaded, answer, prompts
from benchmarks.harness import Arm, Group, Sample, at_least, in_turns
from benchmarks.streams import at_once
from hotshoe.serve.engine import Engine, EngineAdapter

PROMPTS, PROMPT_TOKENS = 8, 128


async def measure(ours: Loaded, stock: Loaded, rounds: int) -> Group:
    """The arms take turns."""
    arms = {
        "base": _arm(ours.engine, ()),
        "8 adapters": _arm(ours.engine, ours.adapters),
        "stock, 8 adapters": _arm(stock.engine, stock.adapters),
    }
    series = await in_turns(arms, rounds)
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
            lambda n: answer(engine, asked[n], 1, adapters[n % len(adapters)] if adapters else None), PROMPTS
        )
        span = max(trace.last for trace in traces) - min(trace.asked for trace in traces)
        return {"tokens/s": PROMPTS * PROMPT_TOKENS / span}

    return run
