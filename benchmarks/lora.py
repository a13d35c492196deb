"""What adapters cost on a CPU: while decoding, while reading prompts, and whether base answers bear them.

The three share their engines, which take half a minute each to start.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from benchmarks import isolation, lora_tax, models, prefill
from benchmarks.engines import Loaded, add, vllm_engine
from benchmarks.harness import Group

ROUNDS = 3
ADAPTERS = 8


async def measure(rounds: int) -> list[Group]:
    """Both engines stay up; their arms take turns."""
    base = models.smollm2()
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folders = [models.make_adapter(scratch / f"a{n}", base, seed=n) for n in range(ADAPTERS)]
        ours, theirs = [
            Loaded(engine, await add(engine, folders))
            for engine in (
                await stack.enter_async_context(vllm_engine(base)),
                await stack.enter_async_context(vllm_engine(base, stock=True)),
            )
        ]
        return [
            await isolation.measure(ours, theirs),
            await prefill.measure(ours, theirs, rounds),
            await lora_tax.measure(ours, theirs, base, folders, rounds),
        ]
