"""Callers that ask, one request after the other, and keep what they got."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from soak.asks import CONTEXT_TOKENS, LEFT, OK, Ask, next_ask
from soak.world import TENANTS, World, key_of

from hotshoe.adapter.errors import Exhausted, HotshoeError
from hotshoe.client import AsyncClient
from hotshoe.client.retry import NEVER
from hotshoe.wire.values import Delta, Event, Finished, Resolved, Sampling, Tokens

HUNG = "HUNG"
HANG_SECONDS = 10.0
"""So long after its deadline a call that has not ended hangs."""

THINKING_SECONDS = 0.1
"""Between an answer and the caller's next question, at most."""

TOLD_TO_WAIT_SECONDS = 1.0
"""The same for a caller who was over its limits."""

CALLERS: Mapping[str, int] = {"acme": 6, "globex": 6, "initech": 3}


@dataclass(slots=True)
class Seen:
    """What a caller got. outcome: OK, LEFT, HUNG, the reason of an error, or what no error should be.

    Times are monotonic seconds; first_token is None where none came.
    """

    ask: Ask
    began: float
    ended: float = 0.0
    outcome: str = OK
    resolved: Resolved | None = None
    tokens: list[int] = field(default_factory=list)
    first_token: float | None = None

    def hear(self, event: Event) -> None:
        match event:
            case Resolved():
                self.resolved = event
            case Delta(_, ids):
                if ids and self.first_token is None:
                    self.first_token = time.monotonic()
                self.tokens += ids
            case Finished():
                pass


class Callers:
    """Sends load to `address` until told to stop. on_seen: told of each request that ended."""

    def __init__(self, address: str, world: World, on_seen: Callable[[Seen], Awaitable[None]]) -> None:
        self._address = address
        self._world = world
        self._on_seen = on_seen

    async def run(self, stop: asyncio.Event, chance: random.Random) -> None:
        """Until `stop` is set and the last request has ended."""
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for tenant in TENANTS:
                client = await stack.enter_async_context(self._client(key_of(tenant)))
                for _ in range(CALLERS[tenant]):
                    own = random.Random(chance.random())
                    group.create_task(self._ask_on(client, tenant, own, stop))

    async def _ask_on(
        self, client: AsyncClient, tenant: str, chance: random.Random, stop: asyncio.Event
    ) -> None:
        while not stop.is_set():
            ask = next_ask(tenant, self._world, chance)
            if ask.hangs_up or ask.key != key_of(tenant):
                async with self._client(ask.key) as own:
                    seen = await self.send(own, ask)
            else:
                seen = await self.send(client, ask)
            await self._on_seen(seen)
            waits = TOLD_TO_WAIT_SECONDS if seen.outcome == Exhausted.reason else THINKING_SECONDS
            await asyncio.sleep(chance.uniform(0, waits))

    async def send(self, client: AsyncClient, ask: Ask) -> Seen:
        """Send one request and wait for its end, whatever that is; never longer than it may take."""
        seen = Seen(ask, time.monotonic())
        try:
            async with asyncio.timeout(ask.seconds + HANG_SECONDS):
                seen.outcome = await self._answered(client, ask, seen)
        except TimeoutError:
            seen.outcome = HUNG
        except HotshoeError as error:
            seen.outcome = error.reason
        except Exception as error:
            seen.outcome = repr(error)
        seen.ended = time.monotonic()
        return seen

    async def _answered(self, client: AsyncClient, ask: Ask, seen: Seen) -> str:
        prompt = Tokens(self._prompt(ask))
        sampling = Sampling(temperature=0, max_tokens=ask.tokens, ignore_eos=True)
        if not ask.streamed:
            whole = await client.generate(
                prompt,
                adapter=ask.adapter or None,
                sampling=sampling,
                session=ask.session,
                timeout_seconds=ask.seconds,
            )
            seen.resolved, seen.tokens = whole.resolved, list(whole.token_ids)
            return OK
        stream = client.stream(
            prompt,
            adapter=ask.adapter or None,
            sampling=sampling,
            session=ask.session,
            timeout_seconds=ask.seconds,
        )
        return await _read(stream, client, ask, seen)

    def _prompt(self, ask: Ask) -> tuple[int, ...]:
        question = self._world.oracle.questions[ask.question]
        return question * (CONTEXT_TOKENS // len(question) + 1) if ask.too_long else question

    @contextlib.asynccontextmanager
    async def _client(self, key: str) -> AsyncIterator[AsyncClient]:
        async with AsyncClient(self._address, api_key=key, retry=NEVER) as client:
            yield client


async def _read(stream: AsyncGenerator[Event, None], client: AsyncClient, ask: Ask, seen: Seen) -> str:
    async with contextlib.aclosing(stream) as events:
        async for event in events:
            seen.hear(event)
            if ask.leaves_after is not None and len(seen.tokens) >= ask.leaves_after:
                if ask.hangs_up:
                    await client.close()
                return LEFT
            if ask.pause:
                await asyncio.sleep(ask.pause)
    return OK
