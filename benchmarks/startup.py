"""From the start of the process to a first token, and what a killed server leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil

from benchmarks import clients, models, servers
from benchmarks.harness import Arm, Group, Row, Sample, Spread, at_most, cpu_seconds, in_turns
from benchmarks.servers import Served
from benchmarks.streams import Answer
from hotshoe.client import AsyncClient
from hotshoe.registry import BaseModel

ROUNDS = 2
ORPHAN_SECONDS = 5.0

Start = Callable[[], contextlib.AbstractAsyncContextManager[tuple[Served, Answer]]]


async def measure(rounds: int) -> Group:
    """Cold processes, warm page cache: whatever ran before has read the files."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for title, base in (("tiny", models.tiny_base(scratch)), ("SmolLM2", models.smollm2())):
            arms: dict[str, Arm] = {
                "hotshoe": _arm(lambda base=base: _hotshoe(base, scratch)),  # type: ignore[misc]
                "vllm serve": _arm(lambda base=base: _vllm(base)),  # type: ignore[misc]
            }
            series = await in_turns(arms, rounds, warm_up=False)
            for metric, goal in (("s", at_most(0.5)), ("CPU s", None)):
                rows.append(
                    series.row(
                        f"{title}: start to first token over vllm serve",
                        metric,
                        metric,
                        arm="hotshoe",
                        peer="vllm serve",
                        goal=goal,
                    )
                )
        left = await _orphans(models.tiny_base(scratch), scratch)
    rows.append(
        Row(
            f"processes alive {ORPHAN_SECONDS:g} s after kill -9 of the server",
            {},
            "",
            Spread.of([left]),
            result_unit="",
            goal=at_most(0),
        )
    )
    return Group(
        name="startup",
        title="Start-up to the first token",
        setting="The process is started, asked as soon as it says that it is ready, and answers one token.",
        rows=rows,
    )


def _arm(start: Start) -> Arm:
    async def run() -> Sample:
        async with start() as (server, answer):
            async for _ in answer:
                break
            seconds = time.monotonic() - server.spawned
            spent = cpu_seconds(server.pid)
            await answer.aclose()
        return {"s": seconds, "CPU s": spent}

    return run


@contextlib.asynccontextmanager
async def _hotshoe(base: BaseModel, scratch: Path) -> AsyncIterator[tuple[Served, Answer]]:
    async with (
        servers.hotshoe_server(base, scratch / "registry") as server,
        AsyncClient(server.target) as client,
    ):
        yield server, clients.hotshoe(client)([5, 6, 7], 1)


@contextlib.asynccontextmanager
async def _vllm(base: BaseModel) -> AsyncIterator[tuple[Served, Answer]]:
    async with servers.vllm_http(base) as server, clients.http(server.target) as ask:
        yield server, ask([5, 6, 7], 1)


async def _orphans(base: BaseModel, scratch: Path) -> int:
    async with servers.hotshoe_server(base, scratch / "registry") as server:
        family = psutil.Process(server.pid).children(recursive=True)
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.sleep(ORPHAN_SECONDS)
        return sum(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in family)
