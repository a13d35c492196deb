"""A thousand adapters under Zipf traffic, beside the same traffic on one adapter.

Through eight slots with little memory for adapters, and as a server on a CPU is if it is not told: there a
slot is a reference and costs nothing, and memory is a quarter of what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import clients, models, servers
from benchmarks.harness import (
    Arm,
    Group,
    Row,
    Sample,
    Series,
    Spread,
    at_least,
    at_most,
    in_turns,
    resident_bytes,
)
from benchmarks.streams import Trace, first_token_ms, follow, throughput
from hotshoe.adapter.reference import AdapterName
from hotshoe.client import AsyncClient
from hotshoe.registry import open_registry

ROUNDS = 8
ADAPTERS, SLOTS, RESIDENT = 1000, 8, 128
REQUESTS, CONCURRENT, PROMPT_TOKENS, ANSWER_TOKENS = 256, 32, 16, 32
ZIPF = 1.0


async def measure(rounds: int) -> Group:
    """The tiny base: what is measured is the traffic of adapters, not the arithmetic."""
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base = models.tiny_base(scratch)
        registry = stack.enter_context(open_registry(scratch / "registry", cache=scratch / "seen"))
        for number in range(ADAPTERS):
            folder = models.make_adapter(scratch / "made", base, seed=number)
            name = AdapterName("bench", f"a{number}")
            registry.promote(name, "prod", registry.publish(folder, name, base=base).number, reason="bench")

        async def serving(*flags: str) -> tuple[AsyncClient, int]:
            server = await stack.enter_async_context(
                servers.hotshoe_server(base, scratch / "registry", *flags, cache=scratch / "cache")
            )
            return await stack.enter_async_context(AsyncClient(server.target)), server.pid

        async with asyncio.TaskGroup() as starts:
            of_narrow = starts.create_task(serving("--slots", str(SLOTS), "--resident", str(RESIDENT)))
            of_usual = starts.create_task(serving())
        narrow, usual = of_narrow.result(), of_usual.result()
        series = await in_turns(
            {
                "one adapter": _arm(*narrow, [1.0]),
                "1,000 adapters": _arm(*narrow, _zipf(ADAPTERS)),
                "1,000 adapters, by default": _arm(*usual, _zipf(ADAPTERS)),
            },
            rounds,
        )
    return _group(series)


def _group(series: Series) -> Group:
    one, many, by_default = series.samples
    return Group(
        name="many_adapters",
        title="A thousand adapters",
        setting=f"Tiny Llama, {REQUESTS} requests, {CONCURRENT} at a time, {PROMPT_TOKENS} tokens in, "
        f"{ANSWER_TOKENS} out, Zipf {ZIPF:g}, rank 16; {SLOTS} slots and {RESIDENT} adapters in memory, and "
        "by default, which is a slot for each answer of a step and as many adapters as memory holds.",
        rows=[
            *_rows(series, f"{SLOTS} slots", many, one),
            *_rows(series, "by default", by_default, one),
            _memory(series, many),
        ],
    )


def _rows(series: Series, what: str, arm: str, peer: str) -> list[Row]:
    ratio = series.row(
        f"{what}: throughput over one adapter",
        "tokens/s",
        "tokens/s",
        arm=arm,
        peer=peer,
        goal=at_least(0.75),
    )
    waits = (
        Row(f"{what}: {metric.split()[0]} first token", {}, "", series.spread(arm, metric), result_unit="ms")
        for metric in ("median ms", "p99 ms")
    )
    return [ratio, *waits]


def _memory(series: Series, arm: str) -> Row:
    grown = [sample["MiB"] for sample in series.samples[arm]]
    return Row(
        f"{SLOTS} slots: memory of the server at the end, over the first round's",
        {arm: series.spread(arm, "MiB")},
        "MiB",
        Spread.of([grown[-1] / grown[0]]),
        goal=at_most(1.1),
    )


def _arm(client: AsyncClient, pid: int, weights: Sequence[float]) -> Arm:
    seeds = itertools.count()

    async def run() -> Sample:
        random = np.random.default_rng(next(seeds))
        chosen = random.choice(len(weights), REQUESTS, p=weights)
        asked = random.integers(100, 1000, (REQUESTS, PROMPT_TOKENS))
        gate = asyncio.Semaphore(CONCURRENT)

        async def one(number: int) -> Trace:
            async with gate:
                ask = clients.hotshoe(client, f"bench/a{chosen[number]}")
                return await follow(ask([int(token) for token in asked[number]], ANSWER_TOKENS))

        traces = await asyncio.gather(*(one(number) for number in range(REQUESTS)))
        return {
            "tokens/s": throughput(traces),
            "p99 ms": first_token_ms(traces, 99),
            "median ms": first_token_ms(traces),
            "MiB": resident_bytes(pid) / 2**20,
        }

    return run


def _zipf(count: int) -> list[float]:
    weights = 1 / np.arange(1, count + 1) ** ZIPF
    return list(weights / weights.sum())
