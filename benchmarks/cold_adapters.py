"""The first token on an adapter that is in memory, on this machine's disk, or only in the registry."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import clients, models, servers
from benchmarks.clients import Ask
from benchmarks.engines import prompts
from benchmarks.harness import Arm, Group, Row, Sample, Series, at_most, in_turns
from benchmarks.streams import at_once, first_token_ms
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.client import AsyncClient
from hotshoe.registry import BaseModel, Registry, open_registry

ROUNDS = 8
SLOTS, RESIDENT, WARM = 2, 8, 12
FROM_MEMORY, FROM_DISK = 4, 10
"""How many adapters ago one was used last: out of its slot since, or out of memory."""


async def measure(rounds: int) -> Group:
    """Each turn of `unread` and `registry` takes an adapter that was never loaded before."""
    base = models.smollm2()
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        registry = stack.enter_context(open_registry(scratch / "registry", cache=scratch / "seen"))
        for number in range(WARM + 2 * rounds):
            _publish(registry, models.make_adapter(scratch / "made", base, seed=number), number, base)
        flags = ("--resident", str(RESIDENT), "--slots", str(SLOTS))
        server = await stack.enter_async_context(
            servers.hotshoe_server(base, scratch / "registry", *flags, cache=scratch / "cache")
        )
        client = await stack.enter_async_context(AsyncClient(server.target))
        elsewhere = stack.enter_context(open_registry(scratch / "registry", cache=scratch / "cache"))
        used: list[str] = []

        def again(ago: int) -> str:
            used.append(used.pop(-ago))
            return used[-1]

        def fresh() -> str:
            used.append(f"bench/a{len(used)}")
            return used[-1]

        def unread() -> str:
            version = elsewhere.resolve(AdapterRef.parse(fresh()))
            elsewhere.fetch(version)
            elsewhere.release(version)
            return used[-1]

        for _ in range(WARM):
            await _first_token(clients.hotshoe(client, fresh()), seed=0)
        series = await in_turns(
            {
                "base": _arm(client, lambda: None),
                "memory": _arm(client, lambda: again(FROM_MEMORY)),
                "disk": _arm(client, lambda: again(FROM_DISK)),
                "unread": _arm(client, unread),
                "registry": _arm(client, fresh),
            },
            rounds,
            warm_up=False,
        )
    return _group(series)


def _publish(registry: Registry, folder: Path, number: int, base: BaseModel) -> None:
    name = AdapterName("bench", f"a{number}")
    registry.promote(name, "prod", registry.publish(folder, name, base=base).number, reason="benchmark")
    shutil.rmtree(folder)


def _group(series: Series) -> Group:
    return Group(
        name="cold_adapters",
        title="First token by where the adapter is",
        setting="SmolLM2-135M, 19.6 MB adapters, an idle server, prompts of 16 tokens; the registry is a "
        "folder, so fetching is copying and hashing.",
        rows=[
            Row("base, no adapter", {}, "", series.spread("base", "ms"), result_unit="ms"),
            Row("in memory, not in a slot", {}, "", series.spread("memory", "ms"), result_unit="ms"),
            series.row(
                "on disk since it left memory, over memory",
                "ms",
                "ms",
                arm="disk",
                peer="memory",
                goal=at_most(1.5),
            ),
            series.row(
                "on disk, its bytes not yet hashed by this server, over memory",
                "ms",
                "ms",
                arm="unread",
                peer="memory",
            ),
            series.row("only in the registry, over memory", "ms", "ms", arm="registry", peer="memory"),
        ],
    )


def _arm(client: AsyncClient, choose: Callable[[], str | None]) -> Arm:
    seeds = itertools.count(1)

    async def run() -> Sample:
        # Another thread: taking a version from the registry blocks.
        adapter = await asyncio.to_thread(choose)
        return {"ms": await _first_token(clients.hotshoe(client, adapter), seed=next(seeds))}

    return run


async def _first_token(ask: Ask, *, seed: int) -> float:
    (asked,) = prompts(1, 16, 40_000, seed=seed)
    return first_token_ms(await at_once(lambda _: ask(asked, 1), 1))
