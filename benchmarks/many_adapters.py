"""A thousand adapters under Zipf traffic, beside the same traffic on one adapter.

Through eight slots, and through as many as a server on a CPU has if it is not told: there a slot is a
reference and costs nothing.
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
from benchmarks.harness import Arm, Group, Row, Sample, Spread, at_least, at_most, in_turns, resident_bytes
from benchmarks.streams import Trace, first_token_ms, follow, throughput
from hotshoe.adapter.reference import AdapterName
from hotshoe.client import AsyncClient
from hotshoe.registry import open_registry

ROUNDS = 4
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
            flags = ("--resident", str(RESIDENT), *flags)
            server = await stack.enter_async_context(
                servers.hotshoe_server(base, scratch / "registry", *flags, cache=scratch / "cache")
            )
            return await stack.enter_async_context(AsyncClient(server.target)), server.pid

        narrow, wide = await serving("--slots", str(SLOTS)), await serving()
        series = await in_turns(
            {
                "one adapter": _arm(*narrow, [1.0]),
                "1,000 adapters": _arm(*narrow, _zipf(ADAPTERS)),
                "1,000 adapters, slots by default": _arm(*wide, _zipf(ADAPTERS)),
            },
            rounds,
        )
    one, many, by_default = series.samples
    memory = [sample["MiB"] for sample in series.samples[many]]
    return Group(
        name="many_adapters",
        title="A thousand adapters",
        setting=f"Tiny Llama, {REQUESTS} requests, {CONCURRENT} at a time, {PROMPT_TOKENS} tokens in, "
        f"{ANSWER_TOKENS} out, Zipf {ZIPF:g}, {RESIDENT} in memory, rank 16; {SLOTS} slots, and the default "
        "of a server on a CPU, which is one for each answer of a step.",
        rows=[
            series.row(
                f"{SLOTS} slots: throughput over one adapter",
                "tokens/s",
                "tokens/s",
                arm=many,
                peer=one,
                goal=at_least(0.75),
            ),
            Row(f"{SLOTS} slots: p99 first token", {}, "", series.spread(many, "p99 ms"), result_unit="ms"),
            Row(
                f"{SLOTS} slots: median first token",
                {},
                "",
                series.spread(many, "median ms"),
                result_unit="ms",
            ),
            series.row(
                "slots by default: throughput over one adapter",
                "tokens/s",
                "tokens/s",
                arm=by_default,
                peer=one,
                goal=at_least(0.75),
            ),
            Row(
                "slots by default: p99 first token",
                {},
                "",
                series.spread(by_default, "p99 ms"),
                result_unit="ms",
            ),
            Row(
                "slots by default: median first token",
                {},
                "",
                series.spread(by_default, "median ms"),
                result_unit="ms",
            ),
            Row(
                "memory of the server at the end, over the first round's",
                {many: series.spread(many, "MiB")},
                "MiB",
                Spread.of([memory[-1] / memory[0]]),
                goal=at_most(1.1),
            ),
        ],
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
