"""What adapters cost while tokens are generated: 32 answers over 8 adapters, beside base and stock."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engines import Loaded, answer, prompts
from benchmarks.harness import Arm, Group, Sample, Series, at_least, cpu_seconds, in_turns
from benchmarks.peft_peer import peft_arm
from benchmarks.streams import at_once, decode_rate
from hotshoe.registry import BaseModel
from hotshoe.serve.engine import Engine, EngineAdapter

ANSWERS, PROMPT_TOKENS, ANSWER_TOKENS = 32, 8, 12


async def measure(
    ours: Loaded, stock: Loaded, base: BaseModel, folders: Sequence[Path], rounds: int
) -> Group:
    """The arms take turns. folders: of the adapters, in the order in which they were loaded."""
    arms = {
        "base": _arm(ours.engine, ()),
        "8 adapters": _arm(ours.engine, ours.adapters),
        "stock, base": _arm(stock.engine, ()),
        "stock, 8 adapters": _arm(stock.engine, stock.adapters),
        "peft": peft_arm(base, folders, answers=ANSWERS, prompt=PROMPT_TOKENS, tokens=ANSWER_TOKENS),
    }
    return _group(await in_turns(arms, rounds), len(folders))


def _group(series: Series, adapters: int) -> Group:
    rate = "tokens/s"
    return Group(
        name="lora_tax",
        title="LoRA while decoding, CPU",
        setting=f"SmolLM2-135M float32, {ANSWERS} answers at once over {adapters} adapters of rank 16 on all "
        f"linear layers, {PROMPT_TOKENS} tokens in, {ANSWER_TOKENS} out; the same engine settings "
        "everywhere, one thread.",
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
                goal=at_least(2.5),
            ),
            series.row("base alone over stock's base", rate, rate, arm="base", peer="stock, base"),
            series.row(
                "8 adapters over transformers with peft, one batch", rate, rate, arm="8 adapters", peer="peft"
            ),
            series.row(
                "CPU for a token, 8 adapters over stock",
                "CPU ms/token",
                "CPU ms/token",
                arm="8 adapters",
                peer="stock, 8 adapters",
            ),
        ],
    )


def _arm(engine: Engine, adapters: Sequence[EngineAdapter]) -> Arm:
    seeds = itertools.count()

    async def run() -> Sample:
        asked = prompts(ANSWERS, PROMPT_TOKENS, engine.facts.vocabulary, seed=next(seeds))
        before = cpu_seconds()
        traces = await at_once(
            lambda n: answer(
                engine, asked[n], ANSWER_TOKENS, adapters[n % len(adapters)] if adapters else None
            ),
            ANSWERS,
        )
        spent = cpu_seconds() - before
        return {
            "tokens/s": decode_rate(traces),
            "CPU ms/token": spent * 1000 / sum(trace.tokens for trace in traces),
        }

    return run
