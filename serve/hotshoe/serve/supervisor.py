"""An engine that is there again after it died."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from hotshoe.adapter.errors import EngineUnavailable, HotshoeError
from hotshoe.serve.engine import Engine, EngineAdapter, EngineChunk, EngineFacts
from hotshoe.wire.values import Chat, Sampling

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STABLE_SECONDS = 60.0
"""One that lived this long was no failed start: the pause before the next begins small again."""

Callback = Callable[[], Awaitable[None]]


class SupervisedEngine:
    """An `Engine` whose engine is replaced when it dies, after a pause that grows.

    While there is none, what needs one raises EngineUnavailable. start: makes the next engine, with the
    same facts; cancelled, it leaves nothing behind. restarts: how often the engine was replaced. All
    methods belong to one event loop.
    """

    def __init__(self, engine: Engine, start: Callable[[], Awaitable[Engine]]) -> None:
        self._engine = engine
        self._start = start
        self._facts = engine.facts
        self._up = True
        self._started_at = time.monotonic()
        self._pause = FIRST_PAUSE_SECONDS
        self._starting: asyncio.Task[Engine] | None = None
        self._lost: list[Callback] = []
        self._back: list[Callback] = []
        self.restarts = 0

    def on_lost(self, callback: Callback) -> None:
        """Call when the engine has died, before the next one is started."""
        self._lost.append(callback)

    def on_back(self, callback: Callback) -> None:
        """Call when the next engine is there."""
        self._back.append(callback)

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    def encode_text(self, text: str) -> tuple[int, ...]:
        return self._engine.encode_text(text)

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        return self._engine.encode_chat(chat)

    async def add(self, adapter: EngineAdapter) -> None:
        await self._alive().add(adapter)

    async def remove(self, adapter: EngineAdapter) -> None:
        await self._alive().remove(adapter)

    def generate(
        self,
        request_id: str,
        prompt: tuple[int, ...],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        *,
        tenant: str = "",
    ) -> AsyncGenerator[EngineChunk, None]:
        return self._alive().generate(request_id, prompt, sampling, adapter, tenant=tenant)

    async def check(self) -> None:
        await self._alive().check()

    async def close(self) -> None:
        """Stop the engine, and call off the start of one."""
        self._up = False
        await self._engine.close()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
            if not self._starting.cancelled() and self._starting.exception() is None:
                await _close(self._starting.result())

    @contextlib.asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        """Look after the engine until the block ends."""
        task = asyncio.create_task(self._look_after(), name="supervise engine")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _alive(self) -> Engine:
        if not self._up:
            raise EngineUnavailable("the engine died and is being started again: try again in a while")
        return self._engine

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._engine.check()
            except Exception as error:
                log.error("%s", error, exc_info=not isinstance(error, HotshoeError))
                await self._replace()

    async def _replace(self) -> None:
        self._up = False
        if time.monotonic() - self._started_at > STABLE_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        await _call(self._lost)
        await _close(self._engine)
        self._engine = await self._next()
        self._started_at = time.monotonic()
        self._up = True
        self.restarts += 1
        log.info("the engine is there again")
        await _call(self._back)

    async def _next(self) -> Engine:
        while True:
            log.info("starting the engine again in %.1f s", self._pause)
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            try:
                self._starting = asyncio.ensure_future(self._start())
                engine = await asyncio.shield(self._starting)
            except Exception as error:
                log.error("the engine could not be started again: %s", error)
                continue
            try:
                await prove(engine)
            except Exception as error:
                log.error("the engine was started again, but %s", error)
                await _close(engine)
                continue
            self._starting = None
            return engine


async def prove(engine: Engine) -> None:
    """Raise EngineUnavailable unless the engine really generates a token."""
    sampling = Sampling(max_tokens=1, temperature=0)
    async with contextlib.aclosing(engine.generate("proof-of-life", (0,), sampling, None)) as chunks:
        async for _ in chunks:
            return
    raise EngineUnavailable("the engine started but does not answer")


async def _close(engine: Engine) -> None:
    try:
        await engine.close()
    except Exception:
        log.exception("closing the engine that died failed")


async def _call(callbacks: list[Callback]) -> None:
    for callback in callbacks:
        try:
            await callback()
        except Exception:
            log.exception("what should follow the engine's death or return failed")
