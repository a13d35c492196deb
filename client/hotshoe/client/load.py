"""Sends load to a server and measures what its callers would feel: for `hotshoe bench` and for soaks."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from hotshoe.adapter.errors import HotshoeError, InvalidRequest
from hotshoe.client.aio import AsyncClient
from hotshoe.client.measures import Report, Sample
from hotshoe.wire.values import Delta, Finished, Sampling

BASE = ""
"""The base alone, among adapters."""

UNFINISHED = 10_000
"""Requests under way at most, where they arrive faster than they are answered."""

_TEXT = """the parcel invoice never came and support wrote that a contract clause must be paid in advance
when camera lens order number address delivery refund please send new one soon because it is wrong"""
_WORDS = _TEXT.split()


@dataclass(frozen=True, slots=True)
class Load:
    """What to send.

    adapters: the first is wanted most, the second 2**-zipf as often, the third 3**-zipf ...; BASE is the
    base. rate: requests a second that arrive by chance (Poisson), whatever happened to those before;
    None: `concurrent` callers who ask again as soon as they are answered. seconds: how long requests are
    sent; those under way then are waited for. prompt_words, output_tokens: from, to, both included.
    """

    adapters: tuple[str, ...] = (BASE,)
    zipf: float = 1.0
    rate: float | None = None
    concurrent: int = 8
    seconds: float = 10.0
    prompt_words: tuple[int, int] = (16, 64)
    output_tokens: tuple[int, int] = (32, 32)
    temperature: float | None = 0.0
    timeout_seconds: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.adapters:
            raise InvalidRequest("there is no adapter to send load to: name one, or the base")
        if self.concurrent < 1 or (self.rate is not None and self.rate <= 0) or self.seconds <= 0:
            raise InvalidRequest("load needs a rate over 0 or at least one caller, for more than 0 seconds")
        for name, (low, high) in (("prompt", self.prompt_words), ("output", self.output_tokens)):
            if not 1 <= low <= high:
                raise InvalidRequest(f"{name} sizes are {low} to {high}: give 1 or more, the less first")


async def send(
    client: AsyncClient, load: Load, *, on_sample: Callable[[Sample], None] = lambda _: None
) -> Report:
    """Send a load; on_sample is told of every request that ended. The client's retries are its own."""
    began = time.monotonic()
    samples: list[Sample] = []
    chance = random.Random(load.seed)

    async def ask() -> None:
        sample = await _ask(client, load, chance)
        samples.append(sample)
        on_sample(sample)

    async with asyncio.TaskGroup() as group:
        if load.rate is None:
            for _ in range(load.concurrent):
                group.create_task(_again_and_again(ask, until=began + load.seconds))
        else:
            under_way: set[asyncio.Task[None]] = set()
            async for _ in _arrivals(load.rate, chance, until=began + load.seconds):
                if len(under_way) < UNFINISHED:
                    task = group.create_task(ask())
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
    return Report.of(samples, time.monotonic() - began)


async def _again_and_again(ask: Callable[[], Awaitable[None]], *, until: float) -> None:
    while time.monotonic() < until:
        await ask()


async def _arrivals(rate: float, chance: random.Random, *, until: float) -> AsyncIterator[None]:
    """Yield at the times of a Poisson process, by the clock: a late one does not put off the others."""
    due = time.monotonic()
    while (due := due + chance.expovariate(rate)) < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        yield


async def _ask(client: AsyncClient, load: Load, chance: random.Random) -> Sample:
    weights = [rank**-load.zipf for rank in range(1, len(load.adapters) + 1)]
    (adapter,) = chance.choices(load.adapters, weights)
    prompt = " ".join(chance.choices(_WORDS, k=chance.randint(*load.prompt_words)))
    tokens = chance.randint(*load.output_tokens)
    sampling = Sampling(temperature=load.temperature, max_tokens=tokens, ignore_eos=True)
    sample = Sample(adapter)
    began = last = time.monotonic()
    stream = client.stream(
        prompt, adapter=adapter or None, sampling=sampling, timeout_seconds=load.timeout_seconds
    )
    try:
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Delta):
                    now = time.monotonic()
                    if sample.first_token is None:
                        sample.first_token = now - began
                    else:
                        sample.gaps.append(now - last)
                    last = now
                    sample.output_tokens += len(event.token_ids)
                elif isinstance(event, Finished):
                    sample.prompt_tokens = event.usage.prompt_tokens
                    sample.load_ms = event.usage.load_ms
    except HotshoeError as error:
        sample.outcome = error.reason
    sample.seconds = time.monotonic() - began
    return sample
