"""Nobody can hurt anybody, on the real engine: floods of one tenant, and more adapters than slots."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import tiny

from hotshoe.adapter.errors import Exhausted
from hotshoe.adapter.reference import AdapterName
from hotshoe.client import AsyncClient
from hotshoe.client.retry import NEVER
from hotshoe.registry import BaseModel, open_registry
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.server import running
from hotshoe.serve.tenants import key_hash
from hotshoe.wire.values import Delta, Sampling, Tokens

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

SEQUENCES, SLOTS = 16, 4
FLOOD, SAMPLES = 64, 40
ADAPTERS = 8
BUSY_SECONDS = 0.15
"""What a machine that does other things too may add; without fairness a flood costs a second."""

SHORT = Sampling(temperature=0, max_tokens=2, ignore_eos=True)
TENANTS = "".join(
    f'[tenants.{name}]\nkeys = ["{key_hash(f"hs_{name}")}"]\nadapters = ["{name}/*"]\n'
    for name in ("flooder", "victim")
)

_numbers = itertools.count(3)


@dataclass(frozen=True)
class Place:
    """A server on the session's engine, and a client of each tenant."""

    flooder: AsyncClient
    victim: AsyncClient


@pytest.fixture(scope="module")
async def place(
    tiny_engine: VllmEngine,
    tiny_base: Path,
    tiny_adapter: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Place]:
    """victim/a0 to victim/a7, promoted; more of them than the engine has slots."""
    folder = tmp_path_factory.mktemp("fairness")
    (folder / "tenants.toml").write_text(TENANTS)
    base = BaseModel(tiny_base, tiny_engine.facts.base)
    config = ServeConfig(
        base="tiny",
        listen="127.0.0.1:0",
        tenants=folder / "tenants.toml",
        sequences=SEQUENCES,
        slots=SLOTS,
        resident=ADAPTERS,
    )
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        for number in range(ADAPTERS):
            name = AdapterName("victim", f"a{number}")
            version = registry.publish(tiny_adapter("fair", 200 + number), name, base=base)
            registry.promote(name, "prod", version.number)
        async with (
            running(config, tiny_engine, registry) as server,
            AsyncClient(server.address, api_key="hs_flooder", retry=NEVER) as flooder,
            AsyncClient(server.address, api_key="hs_victim", retry=NEVER) as victim,
        ):
            yield Place(flooder, victim)


def prompt() -> Tokens:
    """A short one that was never asked before."""
    number = next(_numbers)
    return Tokens((number % tiny.VOCABULARY, number // tiny.VOCABULARY + 3, 7, 8))


async def first_token_seconds(client: AsyncClient) -> float:
    began = time.monotonic()
    stream = client.stream(prompt(), sampling=SHORT)
    async with contextlib.aclosing(stream) as events:
        async for event in events:
            if isinstance(event, Delta):
                return time.monotonic() - began
    raise AssertionError("no token came")


@contextlib.asynccontextmanager
async def streams(client: AsyncClient, count: int, adapter: str | None = None) -> AsyncIterator[None]:
    """That many callers, each of whom asks again as soon as it was answered, until the block ends.

    Their answers are of different lengths, so that they do not all end at once.
    """

    async def again_and_again(tokens: int) -> None:
        sampling = Sampling(temperature=0, max_tokens=tokens, ignore_eos=True)
        while True:
            with contextlib.suppress(Exhausted):
                await client.generate(prompt(), adapter=adapter, sampling=sampling)

    callers = [asyncio.create_task(again_and_again(48 + 16 * (number % 3))) for number in range(count)]
    await asyncio.sleep(0.5)
    try:
        yield
    finally:
        for each in callers:
            each.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


def p95(values: list[float]) -> float:
    return sorted(values)[-(len(values) // 20) - 1]


async def test_a_flood_does_not_push_anothers_p95_first_token_past_twice_what_it_is_without(
    place: Place,
) -> None:
    """Without: the flooder has as many streams as run in its flood, so the engine is as full, without a line.

    Where both are one tenant, the same requests show what the line would cost the victim.
    """
    first_tokens: dict[str, list[float]] = {"no line": [], "flood": [], "flood of its own": []}
    for _ in range(2):
        for arm, count, client in (
            ("no line", SEQUENCES - 1, place.flooder),
            ("flood", FLOOD, place.flooder),
            ("flood of its own", FLOOD, place.victim),
        ):
            async with streams(client, count):
                for _ in range(SAMPLES // 2 if arm != "flood of its own" else 3):
                    first_tokens[arm].append(await first_token_seconds(place.victim))

    alone, beside = p95(first_tokens["no line"]), p95(first_tokens["flood"])
    unfair = p95(first_tokens["flood of its own"])
    assert beside < 2 * alone + BUSY_SECONDS, first_tokens
    assert unfair > 2 * beside, first_tokens


async def test_an_adapter_gets_its_turn_while_others_never_leave_their_slots(place: Place) -> None:
    """Four adapters hold all slots with requests without end; who wants another one waits its turn only."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(SLOTS):
            await stack.enter_async_context(streams(place.victim, 3, f"victim/a{number}"))
        waits = []
        for number in range(SLOTS, ADAPTERS):
            async with asyncio.timeout(30):
                answer = await place.victim.generate(prompt(), adapter=f"victim/a{number}", sampling=SHORT)
            waits.append(answer.usage.queue_ms / 1000)
        others = await asyncio.gather(
            *(
                place.victim.generate(
                    prompt(), adapter=f"victim/a{number}", sampling=SHORT, timeout_seconds=30
                )
                for number in range(SLOTS)
            )
        )

    # A turn is two seconds, and an answer that has begun is finished.
    assert max(waits) < 10
    assert len(others) == SLOTS
