"""How long 16 running streams pause while a 19.6 MB version comes in, beside what stock `add_lora` does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
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
from hotshoe.wire.admin import Happening, What

ROUNDS = 6
STREAMS, PROMPT_TOKENS, ANSWER_TOKENS = 16, 8, 1000
"""More than is waited for: streams are closed when enough was seen."""
PROMPT_SECONDS = 1.0
"""Long enough for every stream to be past its prompt."""
WINDOW_SECONDS = 3.0
"""What is looked at before the change, and from its beginning on: the longest gap grows with that time."""
AFTER_SECONDS = 1.0
"""So that a gap that begins in the window is seen to its end."""
LONGEST_SECONDS = 60.0

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
                    # No request of its own: to read its prompt would be the longest gap of all.
                    async with contextlib.aclosing(admin.watch()) as happenings:
                        moved = asyncio.create_task(_moved(happenings, f"v{number}"))
                        await asyncio.to_thread(registry.promote, ADAPTER, "prod", number, reason="the next")
                        await moved

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
        "version against `add_lora` of one such adapter in stock vLLM. Added is the longest gap in the "
        f"{WINDOW_SECONDS:g} seconds from the change on (or until it is done), less that in as many before "
        "it; a gap is the median over the streams, which all wait when the engine does.",
        rows=[
            Row(
                "added gap, over stock's",
                added,
                "ms",
                Spread.of([max(added["hotshoe"].median, 0) / max(added["stock add_lora"].median, 1e-9)]),
                goal=at_most(0.33),
            ),
            Row(
                "added gap, of the one stream that waits longest",
                {name: series.spread(name, "added to the worst ms") for name in series.samples},
                "ms",
                series.spread("hotshoe", "added to the worst ms"),
                result_unit="ms",
            ),
            Row(
                "usual longest gap in the same streams",
                {name: series.spread(name, "usual ms") for name in series.samples},
                "ms",
                series.ratio("hotshoe", "stock add_lora", "usual ms"),
            ),
            Row(
                "from promote until the alias answers with the new version",
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
        traces = [Trace(asked=time.monotonic()) for _ in asked]
        async with asyncio.TaskGroup() as group:
            streams = [
                group.create_task(follow(ask(prompt, ANSWER_TOKENS), trace))
                for prompt, trace in zip(asked, traces, strict=True)
            ]
            await asyncio.sleep(PROMPT_SECONDS + WINDOW_SECONDS)
            began = time.monotonic()
            await change()
            ended = time.monotonic()
            until = max(ended, began + WINDOW_SECONDS)
            await asyncio.sleep(until - time.monotonic() + AFTER_SECONDS)
            for stream, trace in zip(streams, traces, strict=True):
                stream.cancel()
                trace.arrivals.append((time.monotonic(), 0))  # A gap that is open still counts.
        usual = [trace.longest_gap(began - WINDOW_SECONDS, began) * 1000 for trace in traces]
        longest = [trace.longest_gap(began, until) * 1000 for trace in traces]
        return {
            "added ms": statistics.median(longest) - statistics.median(usual),
            "added to the worst ms": max(longest) - max(usual),
            "usual ms": statistics.median(usual),
            "seconds": ended - began,
        }

    return run


async def _moved(happenings: AsyncIterator[Happening], tag: str) -> None:
    async with asyncio.timeout(LONGEST_SECONDS):
        async for each in happenings:
            if each.what is What.MOVED and each.version == tag:
                return
            if each.what is What.STUCK:
                break
    raise RuntimeError(f"{tag} was promoted and does not answer")


def _request(folder: Path) -> object:
    from vllm.lora.request import LoRARequest

    adapter = fresh(folder)
    return LoRARequest(adapter.name, adapter.id, str(adapter.folder))
