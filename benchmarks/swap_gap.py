"""How long 16 running streams pause while a 19.6 MB version comes in, beside what stock `add_lora` does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from benchmarks import clients, models, servers
from benchmarks.clients import Ask
from benchmarks.engines import fresh, prompts, vllm_engine
from benchmarks.harness import Arm, Group, Row, Sample, Spread, at_most, in_turns
from benchmarks.streams import Trace, follow
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.client import AsyncClient
from hotshoe.registry import open_registry

ROUNDS = 5
STREAMS, PROMPT_TOKENS, ANSWER_TOKENS = 16, 8, 64
SETTLED_SECONDS = 2.0
"""Long enough for every stream to be past its prompt, and to show its usual gaps before the change."""

ADAPTER = AdapterName("bench", "swap")


async def measure(rounds: int) -> Group:
    """A swap through Hotshoe's registry and server, and an `add_lora` on a stock engine, in turns."""
    base = models.smollm2()
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        registry = stack.enter_context(open_registry(scratch / "registry"))
        seeds = itertools.count()

        def publish() -> int:
            number = next(seeds)
            folder = models.make_adapter(scratch / f"a{number}", base, seed=number)
            return registry.publish(folder, ADAPTER, base=base).number

        registry.promote(ADAPTER, "prod", publish(), reason="the first")
        server = await stack.enter_async_context(servers.hotshoe_server(base, scratch / "registry"))
        client = await stack.enter_async_context(AsyncClient(server.target))

        async def swap() -> None:
            wanted = registry.resolve(AdapterRef(ADAPTER)).number + 1
            number = await asyncio.to_thread(publish)
            assert number == wanted
            await asyncio.to_thread(registry.promote, ADAPTER, "prod", number, reason="the next")
            await _until_served(client, f"v{number}")

        stock = await stack.enter_async_context(vllm_engine(base, stock=True))

        async def add() -> None:
            number = next(seeds)
            folder = await asyncio.to_thread(models.make_adapter, scratch / f"s{number}", base, seed=number)
            await stock._llm.add_lora(_request(folder))  # type: ignore[attr-defined]

        series = await in_turns(
            {
                "hotshoe": _arm(clients.hotshoe(client, str(ADAPTER)), swap),
                "stock add_lora": _arm(clients.direct(stock._llm), add),  # type: ignore[attr-defined]
            },
            rounds,
        )
    added = {name: series.spread(name, "added ms") for name in series.samples}
    return Group(
        name="swap_gap",
        title="Hot swap: the longest pause of running streams",
        setting=f"SmolLM2-135M, {STREAMS} streams; publish, promote, fetch, verify, load and switch of a "
        "19.6 MB version against `add_lora` of one such adapter in stock vLLM. Added is the longest gap in "
        "any stream during the change, less the median of the streams' longest gaps just before.",
        rows=[
            Row(
                "added gap, over stock's",
                added,
                "ms",
                Spread.of([max(added["hotshoe"].median, 0) / max(added["stock add_lora"].median, 1e-9)]),
                goal=at_most(0.33),
            ),
            Row(
                "usual longest gap in the same streams",
                {name: series.spread(name, "usual ms") for name in series.samples},
                "ms",
                series.ratio("hotshoe", "stock add_lora", "usual ms"),
            ),
            Row(
                "from promote to the first answer of the new version, with publishing",
                {},
                "",
                series.spread("hotshoe", "seconds"),
                result_unit="s",
            ),
        ],
    )


def _arm(ask: Ask, change: Callable[[], Awaitable[None]]) -> Arm:
    seeds = itertools.count()

    async def run() -> Sample:
        asked = prompts(STREAMS, PROMPT_TOKENS, 40_000, seed=next(seeds))
        streams = [asyncio.create_task(follow(ask(each, ANSWER_TOKENS))) for each in asked]
        await asyncio.sleep(SETTLED_SECONDS)
        began = time.monotonic()
        await change()
        ended = time.monotonic()
        traces = await asyncio.gather(*streams)
        usual = _median_gap(traces, began - SETTLED_SECONDS / 2, began)
        longest = max(trace.longest_gap(began, ended) for trace in traces)
        return {"added ms": (longest - usual) * 1000, "usual ms": usual * 1000, "seconds": ended - began}

    return run


def _median_gap(traces: list[Trace], since: float, until: float) -> float:
    return Spread.of(trace.longest_gap(since, until) for trace in traces).median


async def _until_served(client: AsyncClient, tag: str) -> None:
    while True:
        answer = await client.generate("x", adapter=str(ADAPTER), sampling=models.ONE_TOKEN)
        if answer.resolved.version == tag:
            return
        await asyncio.sleep(0.05)


def _request(folder: Path) -> object:
    from vllm.lora.request import LoRARequest

    adapter = fresh(folder)
    return LoRARequest(adapter.name, adapter.id, str(adapter.folder))
