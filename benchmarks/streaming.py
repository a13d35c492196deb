"""What a server adds to the engine: 1 to 256 streams of a tiny model, beside the engine and peers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks import clients, models, servers
from benchmarks.clients import Ask
from benchmarks.engines import prompts, vllm_engine
from benchmarks.harness import Arm, Goal, Group, Row, Sample, Series, at_least, at_most, cpu_seconds, in_turns
from benchmarks.streams import at_once, first_token_ms, throughput
from hotshoe.client import AsyncClient

ROUNDS = 12
STREAMS = (1, 16, 64, 256)
PROMPT_TOKENS, ANSWER_TOKENS = 16, 32
WAVES = {1: 8, 16: 6, 64: 3, 256: 2}
"""How often a sample repeats its streams, so that small ones last long enough to be measured. The median of
these is the sample: one hiccup moves a mean."""

DIRECT, HOTSHOE, HTTP, GRPC, EMPTY = "AsyncLLM", "hotshoe", "vllm serve", "vLLM gRPC", "empty gRPC"


async def measure(rounds: int) -> Group:
    """Every server stays up; at each number of streams they take turns."""
    rows: list[Row] = []
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asks = await _start(stack, scratch)
        # All servers are under this process, and even idle ones take some time.
        apart = {DIRECT: [pid for name, (_, pid) in asks.items() if name != DIRECT]}
        for streams in STREAMS:
            arms = {name: _arm(ask, pid, streams, apart.get(name, ())) for name, (ask, pid) in asks.items()}
            rows += _rows(streams, await in_turns(arms, rounds))
    return Group(
        name="streaming",
        title="Streaming: what the server adds to the engine",
        setting=f"A tiny Llama (2 layers, hidden 128), {PROMPT_TOKENS} tokens in, {ANSWER_TOKENS} out, "
        "greedy, token ids in, no adapter; all clients in one process; CPU is that of the server's processes "
        "(for AsyncLLM: of its process, which is the client's too, and the engine's).",
        rows=rows,
    )


async def _start(stack: contextlib.AsyncExitStack, scratch: Path) -> dict[str, tuple[Ask, int]]:
    """name -> how to ask, and the process that serves."""
    base = models.tiny_base(scratch)
    most = max(STREAMS)
    engine = await stack.enter_async_context(vllm_engine(base, stock=True, max_sequences=most))
    asks = {DIRECT: (clients.direct(engine._llm), os.getpid())}  # type: ignore[attr-defined]
    peers = {HTTP: (servers.vllm_http, clients.http), GRPC: (servers.vllm_grpc, clients.vllm_grpc)}
    if not servers.has_vllm_grpc():
        del peers[GRPC]
    # Together: they take most of a minute each.
    async with asyncio.TaskGroup() as starts:
        starting = starts.create_task(
            stack.enter_async_context(servers.hotshoe_server(base, scratch / "registry", sequences=most))
        )
        started = {
            name: starts.create_task(stack.enter_async_context(server(base, sequences=most)))
            for name, (server, _) in peers.items()
        }
    ours = starting.result()
    client = await stack.enter_async_context(AsyncClient(ours.target))
    asks[HOTSHOE] = (clients.hotshoe(client), ours.pid)
    empty = await stack.enter_async_context(servers.empty_grpc())
    asks[EMPTY] = (await stack.enter_async_context(clients.empty_grpc(empty.target)), empty.pid)
    for name, (_, ask_of) in peers.items():
        served = started[name].result()
        asks[name] = (await stack.enter_async_context(ask_of(served.target)), served.pid)
    return asks


def _arm(ask: Ask, pid: int, streams: int, apart: Iterable[int]) -> Arm:
    seeds = itertools.count()

    async def run() -> Sample:
        tokens = 0
        rates, waits = [], []
        before = cpu_seconds(pid, apart=apart)
        for _ in range(WAVES[streams]):
            asked = prompts(streams, PROMPT_TOKENS, 1000, seed=next(seeds))
            traces = await at_once(lambda n, asked=asked: ask(asked[n], ANSWER_TOKENS), streams)  # type: ignore[misc]
            rates.append(throughput(traces))
            waits.append(first_token_ms(traces))
            tokens += sum(trace.tokens for trace in traces)
        spent = cpu_seconds(pid, apart=apart) - before
        if tokens != streams * ANSWER_TOKENS * WAVES[streams]:
            raise RuntimeError(
                f"{tokens} tokens came, {streams * ANSWER_TOKENS * WAVES[streams]} were asked for"
            )
        return {
            "tokens/s": statistics.median(rates),
            "ms": statistics.median(waits),
            "CPU us/token": spent * 1e6 / tokens,
        }

    return run


def _rows(streams: int, series: Series) -> list[Row]:
    def row(metric: str, peer: str, goal: Goal | None, what: str) -> Row:
        return series.row(
            f"{streams} streams: {what} {peer}", metric, metric, arm=HOTSHOE, peer=peer, goal=goal
        )

    crowded = streams >= 64
    rows = [
        row("tokens/s", DIRECT, at_least(0.9), "throughput over"),
        row("tokens/s", HTTP, at_least(1.3) if crowded else None, "throughput over"),
    ]
    if GRPC in series.samples:
        rows.append(row("tokens/s", GRPC, at_least(1.0) if crowded else None, "throughput over"))
    rows += [
        row("ms", DIRECT, at_most(1.3), "median first token over"),
        _floor(streams, series, "ms", "median first token"),
        row("CPU us/token", DIRECT, at_most(1.15), "server CPU over"),
    ]
    # Fewer take too little of a processor to be told by the clock that counts it.
    return [*rows, _floor(streams, series, "CPU us/token", "server CPU")] if crowded else rows


def _floor(streams: int, series: Series, metric: str, what: str) -> Row:
    """What AsyncLLM would have behind a gRPC server that costs nothing but gRPC, if nothing overlapped."""
    return Row(
        f"{streams} streams: {what}, {DIRECT} and {EMPTY} one after the other, over {DIRECT}",
        {name: series.spread(name, metric) for name in (DIRECT, EMPTY)},
        metric,
        series.added(EMPTY, DIRECT, metric),
    )
