"""One soak: furnish a registry, serve it, let callers and chaos loose on it, and see what remains."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from soak.load import Callers
from soak.mishaps import Mishaps
from soak.moves import Moves
from soak.oracle import consult
from soak.poison import Poison
from soak.record import Record
from soak.verdict import Check, Remains, judge_all
from soak.view import shown
from soak.watch import Watch
from soak.world import ALIAS, LINES, OPERATOR, OTHER_BASE, PROBE, World, furnish, key_of, make_voices
from support import tiny
from support.served import Server, hotshoe_serve

from hotshoe.client import AsyncClient
from hotshoe.client.admin import AdminClient
from hotshoe.registry import fetch_base, open_registry
from hotshoe.train.quiet import quiet
from hotshoe.wire.values import Sampling, Tokens

SERVE = (
    *("--slots", "3", "--resident", "5", "--max-rank", "16"),
    *("--sequences", "16", "--kv-cache-mib", "8", "--drain-seconds", "10"),
    *("--log-level", "info", "--log-json"),
)
"""Fewer slots and places in memory than adapters, and a cache too small for all answers at once."""

SMALL_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}
"""oneDNN keeps code for every size of a batch that it has seen, 1,024 of them and 0.4 MB each: for an hour
that looks like a leak. So few are kept here that it is full at once, and what grows then is one."""

STILL_SECONDS = 30.0
ORPHAN_SECONDS = 10.0
JUDGED_SECONDS = 120.0
"""Memory of fewer seconds than this says nothing: what is used for the first time looks like growth."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how rough.

    candidates: questions of each length, of which those with clear answers are kept. kills_until: the part
    of the time in which engines are killed; the rest shows whether the last one's memory is flat. Pauses
    are seconds, from and to.
    """

    seconds: float = 600.0
    seed: int = 0
    candidates: int = 16
    answer_tokens: int = 64
    kills_until: float = 0.55
    between_kills: tuple[float, float] = (20.0, 60.0)
    between_moves: tuple[float, float] = (0.5, 4.0)
    between_tenant_changes: tuple[float, float] = (5.0, 15.0)
    between_orders: tuple[float, float] = (1.0, 6.0)

    @property
    def voices(self) -> int:
        """How many adapters there are to be published: two for each line, and one more now and then."""
        return 2 * len(LINES) + 2 + int(self.seconds / 15)


@dataclass(slots=True)
class Result:
    """What a soak came to."""

    record: Record
    watch: Watch
    checks: list[Check]

    @property
    def kept(self) -> bool:
        return all(check.kept for check in self.checks)


async def soak(plan: Plan, folder: Path, console: Console) -> Result:
    """Run one; leaves no process behind. The server's log stays in `folder`."""
    console.print(f"asking peft what {plan.voices} adapters answer")
    with quiet():
        base = fetch_base(str(tiny.build_base(folder / "base")))
        tiny.build_base(folder / OTHER_BASE, seed=8)
        voices = make_voices(folder / "voices", plan.voices)
        oracle = consult(
            base.folder,
            voices,
            candidates=plan.candidates,
            answer_tokens=plan.answer_tokens,
            seed=plan.seed,
        )
    console.print(f"{len(oracle.questions)} questions with clear answers of {oracle.answer_tokens} tokens")
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        world = World(folder, base, registry, oracle, iter(voices.items()))
        furnish(world)
        arguments = ["--base", str(base.folder), "--tenants", str(world.tenants_file), *SERVE]
        environment = SMALL_CACHES | {
            "HOTSHOE_REGISTRY": str(world.registry_folder),
            "HOTSHOE_CACHE": str(folder / "server-cache"),
        }
        arguments += ["--ledger", str(world.ledger)]
        with hotshoe_serve(folder, *arguments, environment=environment) as server:
            return await _soaked(plan, server, world, console)


async def _soaked(plan: Plan, server: Server, world: World, console: Console) -> Result:
    record, watch = Record(), Watch(psutil.Process(server.process.pid))
    looking = asyncio.create_task(watch.run())
    await _first_answers(server, world)
    async with shown(record, watch, plan.seconds, console):
        await _let_loose(plan, server, world, record)
        still = await _until_still(server)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    watch.look()
    remains = await _remains(plan, record, server, world, watch, still)
    return Result(record, watch, judge_all(record, remains))


async def _first_answers(server: Server, world: World) -> None:
    async with AsyncClient(server.address, api_key=key_of(PROBE), timeout_seconds=60) as client:
        for name in world.lines:
            await client.generate(
                Tokens(world.oracle.questions[0]), adapter=f"{name}@{ALIAS}", sampling=Sampling(max_tokens=1)
            )


async def _let_loose(plan: Plan, server: Server, world: World, record: Record) -> None:
    """Load until the time is over, and chaos in four threads of its own meanwhile."""
    chance, stop = random.Random(plan.seed), asyncio.Event()
    moves, poison = Moves(server.address, world, record), Poison(server.address, world, record)
    mishaps = Mishaps(server, world, record)
    no_more_kills = record.began + plan.seconds * plan.kills_until

    async def change_registry(own: random.Random) -> None:
        await (moves if own.random() < 0.7 else poison).one(own)

    async def kill(own: random.Random) -> None:
        if time.monotonic() < no_more_kills:
            await mishaps.kill_engine(own)

    callers = Callers(server.address, world, lambda seen: record.take(seen, world))
    async with asyncio.TaskGroup() as group:
        load_stop = asyncio.Event()
        group.create_task(callers.run(load_stop, random.Random(chance.random())))
        chaos = [
            group.create_task(_again_and_again(act, pause, stop, random.Random(chance.random())))
            for act, pause in (
                (change_registry, plan.between_moves),
                (kill, plan.between_kills),
                (mishaps.change_tenants, plan.between_tenant_changes),
                (mishaps.operate, plan.between_orders),
            )
        ]
        await asyncio.sleep(max(0.0, record.began + plan.seconds - time.monotonic()))
        stop.set()
        await asyncio.wait(chaos)  # What was begun is seen to its end, and that needs callers.
        load_stop.set()


async def _again_and_again(
    act: Callable[[random.Random], Awaitable[None]],
    pause: tuple[float, float],
    stop: asyncio.Event,
    chance: random.Random,
) -> None:
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(*pause)):
                await stop.wait()
        if not stop.is_set():
            await act(chance)


@dataclass(frozen=True, slots=True)
class _Still:
    in_engine: int
    leases: list[str]
    stuck: list[str]

    def __bool__(self) -> bool:
        return not (self.in_engine or self.leases or self.stuck)


async def _until_still(server: Server) -> _Still:
    """What the server says of itself once nobody asks any more; patiently, as ends are not instant."""
    until = time.monotonic() + STILL_SECONDS
    while True:
        still = await asyncio.to_thread(_look, server)
        if still or time.monotonic() > until:
            return still
        await asyncio.sleep(0.2)


def _look(server: Server) -> _Still:
    with AdminClient(server.address, api_key=key_of(OPERATOR)) as admin:
        status, residency = admin.status(), admin.residency()
    leased = [f"{each.adapter}@{each.version}: {each.leases}" for each in residency if each.leases]
    stuck = [f"{each.alias}: {each.message}" for each in status.stuck]
    return _Still(status.running + status.waiting, leased, stuck)


async def _remains(
    plan: Plan, record: Record, server: Server, world: World, watch: Watch, still: _Still
) -> Remains:
    exit_code = await asyncio.to_thread(server.stop)
    orphans = await asyncio.to_thread(watch.left_behind, ORPHAN_SECONDS)
    for each in orphans:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(each.pid, 9)
    # The second half of what is free of kills: the first fills caches and loads adapters again.
    since = record.began + plan.seconds * (1 + plan.kills_until) / 2
    judged = record.began + plan.seconds - since >= JUDGED_SECONDS
    return Remains(
        in_engine=still.in_engine,
        leases=still.leases,
        stuck=still.stuck,
        exit_code=exit_code,
        orphans=[str(each) for each in orphans],
        unbooked=record.unbooked(world.ledger),
        server_growth=watch.server_growth(since) if judged else None,
        engine_growth=watch.engine_growth(since) if judged else None,
    )
