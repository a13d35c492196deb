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
from hotshoe.registry import BaseModel

ROUNDS = 12
STREAMS = (1, 16, 64, 256)
PROMPT_TOKENS, ANSWER_TOKENS = 16, 32
WAVES = {1: 8, 16: 6, 64: 3, 256: 2}
"""How often a sample repeats its streams, so that small ones last long enough to be measured. The median of
these is the sample: one hiccup moves a mean."""

CROWD = 64
"""From so many streams on there are goals over other servers."""

DIRECT, HOTSHOE, HTTP, GRPC, EMPTY = "AsyncLLM", "hotshoe", "vllm serve", "vLLM gRPC", "empty gRPC"


async def measure(rounds: int) -> Group:
    """At each number of streams the servers take turns: first beside the engine alone, then beside the peers.

    Not all at once: a server that idles while others have their turns is slower when it is asked again, and
    vLLM's take some time of the processors even then.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        base = models.tiny_base(scratch)
        async with contextlib.AsyncExitStack() as stack:
            ours = await stack.enter_async_context(
                servers.hotshoe_server(base, scratch / "registry", sequences=max(STREAMS))
            )
            client = await stack.enter_async_context(AsyncClient(ours.target))
            asks = {HOTSHOE: (clients.hotshoe(client), ours.pid)}
            async with contextlib.AsyncExitStack() as engine:
                beside = await _engine(engine, base)
                over_engine = [await _turns(asks | beside, streams, rounds) for streams in STREAMS]
            peers = await _peers(stack, base)
            over_peers = [await _turns(asks | peers, streams, rounds) for streams in STREAMS]
    rows: list[Row] = []
    for streams, engine_series, peer_series in zip(STREAMS, over_engine, over_peers, strict=True):
        rows += _rows_over_engine(streams, engine_series) + _rows_over_peers(streams, peer_series)
    return Group(
        name="streaming",
        title="Streaming: what the server adds to the engine",
        setting=f"A tiny Llama (2 layers, hidden 128), {PROMPT_TOKENS} tokens in, {ANSWER_TOKENS} out, "
        "greedy, token ids in, no adapter; all clients in one process; CPU is that of the server's processes "
        "(for AsyncLLM: of its process, which is the client's too, and the engine's). First in turns with "
        "AsyncLLM and the empty server, then, without these, with vLLM's servers.",
        rows=rows,
    )


Asks = dict[str, tuple[Ask, int]]
"""name -> how to ask, and the process that serves."""


async def _engine(stack: contextlib.AsyncExitStack, base: BaseModel) -> Asks:
    """The engine in this process, and the server without one."""
    engine = await stack.enter_async_context(vllm_engine(base, stock=True, max_sequences=max(STREAMS)))
    empty = await stack.enter_async_context(servers.empty_grpc())
    return {
        DIRECT: (clients.direct(engine._llm), os.getpid()),  # type: ignore[attr-defined]
        EMPTY: (await stack.enter_async_context(clients.empty_grpc(empty.target)), empty.pid),
    }


async def _peers(stack: contextlib.AsyncExitStack, base: BaseModel) -> Asks:
    """vLLM's own servers, as many as there are here."""
    peers = {HTTP: (servers.vllm_http, clients.http), GRPC: (servers.vllm_grpc, clients.vllm_grpc)}
    if not servers.has_vllm_grpc():
        del peers[GRPC]
    # Together: they take most of a minute each.
    async with asyncio.TaskGroup() as starts:
        started = {
            name: starts.create_task(stack.enter_async_context(server(base, sequences=max(STREAMS))))
            for name, (server, _) in peers.items()
        }
    asks: Asks = {}
    for name, (_, ask_of) in peers.items():
        served = started[name].result()
        asks[name] = (await stack.enter_async_context(ask_of(served.target)), served.pid)
    return asks


async def _turns(asks: Asks, streams: int, rounds: int) -> Series:
    # All servers are under this process, and even idle ones take some time.
    apart = {DIRECT: [pid for name, (_, pid) in asks.items() if name != DIRECT]}
    arms = {name: _arm(ask, pid, streams, apart.get(name, ())) for name, (ask, pid) in asks.items()}
    return await in_turns(arms, rounds)


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


def _row(streams: int, series: Series, metric: str, peer: str, goal: Goal | None, what: str) -> Row:
    return series.row(f"{streams} streams: {what} {peer}", metric, metric, arm=HOTSHOE, peer=peer, goal=goal)


def _rows_over_engine(streams: int, series: Series) -> list[Row]:
    rows = [
        _row(streams, series, "tokens/s", DIRECT, at_least(0.9), "throughput over"),
        _row(streams, series, "ms", DIRECT, at_most(1.3), "median first token over"),
        _floor(streams, series, "ms", "median first token"),
        _row(streams, series, "CPU us/token", DIRECT, at_most(1.15), "server CPU over"),
    ]
    # Fewer take too little of a processor to be told by the clock that counts it.
    return [*rows, _floor(streams, series, "CPU us/token", "server CPU")] if streams >= CROWD else rows


def _rows_over_peers(streams: int, series: Series) -> list[Row]:
    goals = {HTTP: at_least(1.3), GRPC: at_least(1.0)} if streams >= CROWD else {}
    return [
        _row(streams, series, "tokens/s", peer, goals.get(peer), "throughput over")
        for peer in (HTTP, GRPC)
        if peer in series.samples
    ]


def _floor(streams: int, series: Series, metric: str, what: str) -> Row:
    """What AsyncLLM would have behind a gRPC server that costs nothing but gRPC, if nothing overlapped."""
    return Row(
        f"{streams} streams: {what}, {DIRECT} and {EMPTY} one after the other, over {DIRECT}",
        {name: series.spread(name, metric) for name in (DIRECT, EMPTY)},
        metric,
        series.added(EMPTY, DIRECT, metric),
    )
