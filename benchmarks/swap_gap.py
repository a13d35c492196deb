"""How long 16 running streams pause while a 19.6 MB version comes in, beside what stock `add_lora` does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from benchmarks import clients, models, servers
from benchmarks.clients import Ask
from benchmarks.engines import fresh, prompts, vllm_engine
from benchmarks.harness import Arm, Group, Row, Sample, Series, Spread, at_most, in_turns
from benchmarks.streams import Trace, follow
from hotshoe.adapter.reference import AdapterName
from hotshoe.client import AsyncAdminClient, AsyncClient
from hotshoe.registry import BaseModel, open_registry

ROUNDS = 4
STREAMS, PROMPT_TOKENS, ANSWER_TOKENS = 16, 8, 96
PROMPT_SECONDS = 1.0
"""Long enough for every stream to be past its prompt."""
WINDOW_SECONDS = 3.0
"""What is looked at before the change, and from its beginning on: the longest gap grows with that time."""

Change = Callable[[], Awaitable[None]]

ADAPTER = AdapterName("bench", "swap")


async def measure(rounds: int) -> Group:
    """A swap through Hotshoe's registry and server, and an `add_lora` on a stock engine, in turns."""
    base = models.smollm2()
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        arms = {
            "hotshoe": await stack.enter_async_context(_hotshoe(base, scratch)),
            "stock add_lora": await stack.enter_async_context(_stock(base, scratch)),
        }
        series = await in_turns(arms, rounds)
    return _group(series)


@contextlib.asynccontextmanager
async def _hotshoe(base: BaseModel, scratch: Path) -> AsyncIterator[Arm]:
    with open_registry(scratch / "registry") as registry:
        seeds = itertools.count()

        def publish() -> int:
            number = next(seeds)
            folder = models.make_adapter(scratch / f"a{number}", base, seed=number)
            return registry.publish(folder, ADAPTER, base=base).number

        registry.promote(ADAPTER, "prod", publish(), reason="the first")
        async with (
            servers.hotshoe_server(base, scratch / "registry") as server,
            AsyncClient(server.target) as client,
            AsyncAdminClient(server.target) as admin,
        ):

            def swap() -> Change:
                number = publish()

                async def change() -> None:
                    registry.promote(ADAPTER, "prod", number, reason="the next")
                    await _until(lambda: _in_memory(admin, f"v{number}"))
                    await _until(lambda: _answers(client, f"v{number}"))

                return change

            yield _arm(clients.hotshoe(client, str(ADAPTER)), swap)


@contextlib.asynccontextmanager
async def _stock(base: BaseModel, scratch: Path) -> AsyncIterator[Arm]:
    seeds = itertools.count()
    async with vllm_engine(base, stock=True) as engine:
        llm = engine._llm  # type: ignore[attr-defined]

        def add() -> Change:
            number = next(seeds)
            request = _request(models.make_adapter(scratch / f"s{number}", base, seed=number))

            async def change() -> None:
                await llm.add_lora(request)

            return change

        yield _arm(clients.direct(llm), add)


def _group(series: Series) -> Group:
    added = {name: series.spread(name, "added ms") for name in series.samples}
    return Group(
        name="swap_gap",
        title="Hot swap: the longest pause of running streams",
        setting=f"SmolLM2-135M, {STREAMS} streams; promote, fetch, verify, load and switch of a 19.6 MB "
        "version against `add_lora` of one such adapter in stock vLLM. Added is the longest gap in any "
        f"stream in the {WINDOW_SECONDS:g} seconds from the change on, less that in as many before it.",
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
                "from promote to the first answer of the new version",
                {},
                "",
                series.spread("hotshoe", "seconds"),
                result_unit="s",
            ),
        ],
    )


def _arm(ask: Ask, prepared: Callable[[], Change]) -> Arm:
    seeds = itertools.count()

    async def run() -> Sample:
        change = await asyncio.to_thread(prepared)
        asked = prompts(STREAMS, PROMPT_TOKENS, 40_000, seed=next(seeds))
        streams = [asyncio.create_task(follow(ask(each, ANSWER_TOKENS))) for each in asked]
        await asyncio.sleep(PROMPT_SECONDS + WINDOW_SECONDS)
        began = time.monotonic()
        await change()
        ended = time.monotonic()
        traces = await asyncio.gather(*streams)
        usual = _longest_gap(traces, began - WINDOW_SECONDS, began)
        longest = _longest_gap(traces, began, max(ended, began + WINDOW_SECONDS))
        return {"added ms": (longest - usual) * 1000, "usual ms": usual * 1000, "seconds": ended - began}

    return run


def _longest_gap(traces: list[Trace], since: float, until: float) -> float:
    return max(trace.longest_gap(since, until) for trace in traces)


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110 -- a server's state, not an event of ours
        await asyncio.sleep(0.02)


async def _answers(client: AsyncClient, tag: str) -> bool:
    answer = await client.generate("x", adapter=str(ADAPTER), sampling=models.ONE_TOKEN)
    return answer.resolved.version == tag


async def _in_memory(admin: AsyncAdminClient, tag: str) -> bool:
    return any(each.version == tag and each.bytes for each in await admin.residency())


def _request(folder: Path) -> object:
    from vllm.lora.request import LoRARequest

    adapter = fresh(folder)
    return LoRARequest(adapter.name, adapter.id, str(adapter.folder))
