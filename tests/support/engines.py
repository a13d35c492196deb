"""Talking to an engine in tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from hotshoe.serve.engine import Engine, EngineAdapter, EngineChunk
from hotshoe.wire.values import Sampling

GREEDY = Sampling(temperature=0, max_tokens=12, ignore_eos=True)

_ids = itertools.count(1_000_000)
"""Far from those that a server gives out to adapters of its own."""

_requests = itertools.count(1)


def as_engine_adapter(folder: Path) -> EngineAdapter:
    """A folder under a name and an id that no other test uses."""
    number = next(_ids)
    return EngineAdapter(name=f"acme/{folder.name}@{number:064x}", id=number, folder=folder)


async def chunks(
    engine: Engine,
    prompt: str | Sequence[int],
    adapter: EngineAdapter | None = None,
    sampling: Sampling = GREEDY,
) -> list[EngineChunk]:
    """The whole answer, chunk by chunk."""
    ids = engine.encode_text(prompt) if isinstance(prompt, str) else tuple(prompt)
    stream = engine.generate(f"test-{next(_requests)}", ids, sampling, adapter)
    return [chunk async for chunk in stream]


async def tokens(
    engine: Engine,
    prompt: str | Sequence[int],
    adapter: EngineAdapter | None = None,
    sampling: Sampling = GREEDY,
) -> tuple[int, ...]:
    """The answer's tokens."""
    return tuple(i for chunk in await chunks(engine, prompt, adapter, sampling) for i in chunk.token_ids)
