"""What a flood of one tenant does to another's first tokens, beside the same engine load without a line.

The same engine load: the other tenant runs as many streams as it has places in the engine during its flood,
so that the engine is as full in both arms, and only in the flood's does anybody stand in line. "One tenant"
is the control: the same flood under the victim's own name, where the line is in the order of arrival, as it
is in front of an engine that knows no tenants.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks import clients, models, servers
from benchmarks.clients import Ask
from benchmarks.engines import prompts
from benchmarks.harness import Arm, Group, Row, Sample, Series, at_most, in_turns
from benchmarks.streams import first_token_ms, follow
from hotshoe.adapter.errors import Exhausted
from hotshoe.client import AsyncClient
from hotshoe.client.retry import NEVER
from hotshoe.serve.tenants import key_hash

ROUNDS = 3
SEQUENCES, FLOOD = 16, 64
SEATED = SEQUENCES - 1
"""What one tenant may have running: a place in the step is kept for whoever comes next."""

PROMPT_TOKENS, ANSWER_TOKENS, VICTIM_TOKENS = 16, 64, 4
REQUESTS = 60
SETTLED_SECONDS = 1.0

SAME_LOAD, FLOODED, ONE_TENANT, IDLE = "same load", "flood", "flood, one tenant", "idle engine"

_seeds = itertools.count()


async def measure(rounds: int) -> Group:
    """The tiny base: its steps are short, so that it is the line that shows."""
    async with contextlib.AsyncExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base = models.tiny_base(scratch)
        (scratch / "tenants.toml").write_text(
            "".join(f'[tenants.{name}]\nkeys = ["{key_hash(name)}"]\n' for name in ("flooder", "victim"))
        )
        server = await stack.enter_async_context(
            servers.hotshoe_server(
                base,
                scratch / "registry",
                *("--tenants", str(scratch / "tenants.toml")),
                sequences=SEQUENCES,
                cache=scratch / "cache",
            )
        )

        async def ask_as(tenant: str) -> Ask:
            client = AsyncClient(server.target, api_key=tenant, retry=NEVER)
            return clients.hotshoe(await stack.enter_async_context(client))

        victim, flooder = await ask_as("victim"), await ask_as("flooder")
        series = await in_turns(
            {
                IDLE: _arm(victim, flooder, 0),
                SAME_LOAD: _arm(victim, flooder, SEATED),
                FLOODED: _arm(victim, flooder, FLOOD),
                ONE_TENANT: _arm(victim, victim, FLOOD, requests=REQUESTS // 10),
            },
            rounds,
        )
    return Group(
        name="fairness",
        title="A flood of one tenant, and another's first token",
        setting=f"Tiny Llama, {SEQUENCES} answers at once. One tenant asks one request at a time, "
        f"{REQUESTS} a round ({PROMPT_TOKENS} tokens in, {VICTIM_TOKENS} out), beside streams of another "
        f"tenant that never end ({ANSWER_TOKENS} tokens each, asked again at once): {SEATED} of them, "
        f"which all run (same load), or {FLOOD} (flood).",
        rows=_rows(series),
    )


def _rows(series: Series) -> list[Row]:
    def row(what: str, metric: str, arm: str, goal: float | None = None, note: str = "") -> Row:
        limit = None if goal is None else at_most(goal)
        return series.row(what, metric, "ms", arm=arm, peer=SAME_LOAD, goal=limit, note=note)

    return [
        row("p95 first token beside a flood, over the same load", "p95 ms", FLOODED, 2.0),
        row("median first token, the same", "median ms", FLOODED),
        row(
            "p95 first token where both are one tenant", "p95 ms", ONE_TENANT, note="what the line would cost"
        ),
        row("p95 first token on an idle engine", "p95 ms", IDLE),
    ]


def _arm(victim: Ask, other: Ask, streams: int, *, requests: int = REQUESTS) -> Arm:
    async def run() -> Sample:
        async with _streams(other, streams):
            asked = prompts(requests, PROMPT_TOKENS, 1000, seed=next(_seeds))
            traces = [await follow(victim(each, VICTIM_TOKENS)) for each in asked]
        return {"p95 ms": first_token_ms(traces, 95), "median ms": first_token_ms(traces)}

    return run


@contextlib.asynccontextmanager
async def _streams(ask: Ask, count: int) -> AsyncIterator[None]:
    """`count` callers who ask again as soon as they are answered, until the block ends."""
    numbers = itertools.cycle(prompts(1000, PROMPT_TOKENS, 1000, seed=next(_seeds)))

    async def again_and_again() -> None:
        while True:
            with contextlib.suppress(Exhausted):
                await follow(ask(next(numbers), ANSWER_TOKENS))

    callers = [asyncio.create_task(again_and_again()) for _ in range(count)]
    await asyncio.sleep(SETTLED_SECONDS)
    try:
        yield
    finally:
        for each in callers:
            each.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
