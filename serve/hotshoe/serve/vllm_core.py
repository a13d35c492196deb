"""vLLM's core process: what it is asked, and whether it still comes round to answering."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from vllm.v1.engine.exceptions import EngineDeadError

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5

Answer = TypeVar("Answer")


class Silence:
    """How long nothing was heard, in seconds that this process was awake for.

    A machine that slept, or a process that was stopped, looks once and finds hours gone by: one look
    counts for a few looks' time at most.
    """

    def __init__(self, now: float) -> None:
        self.seconds = 0.0
        self._looked_at = now

    def look(self, now: float, *, heard: bool) -> None:
        """now: seconds that never go back. heard: whether there was a sign of life since the last look."""
        passed = min(now - self._looked_at, 4 * LOOK_SECONDS)
        self.seconds = 0.0 if heard else self.seconds + passed
        self._looked_at = now


class Core:
    """The core process of an AsyncLLM. All methods belong to its event loop.

    silence_seconds: the longest that it may take to come round to a question. It does so between two
    steps, so that must be longer than any step or read of an adapter's file takes. One that is silent for
    longer is killed, which ends whatever waits for it as any death does.
    """

    def __init__(self, llm: Any, silence_seconds: float) -> None:
        self._llm = llm
        self._silence_seconds = silence_seconds
        # It goes on for as long as the core lives.
        self._watching = asyncio.create_task(self._watch(), name="watch vLLM's core")

    async def answer(self, question: Coroutine[Any, Any, Answer]) -> Answer:
        """What the core answers. Raises EngineDeadError if it dies before: vLLM would wait for ever."""
        asking = asyncio.ensure_future(question)
        try:
            await asyncio.wait([asking, self._watching], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise EngineDeadError
            return asking.result()
        finally:
            asking.cancel()

    async def call(self, method: str, *arguments: object) -> list[Any]:
        """What each worker's method of that name returns. Raises as `answer`."""
        return await self.answer(self._llm.collective_rpc(method, args=arguments))

    async def close(self) -> None:
        """Watch no longer, and leave nobody waiting."""
        self._watching.cancel()
        await asyncio.wait([self._watching])

    async def _watch(self) -> None:
        silence = Silence(time.monotonic())
        asking = asyncio.ensure_future(self._llm.collective_rpc("hotshoe_hello"))
        try:
            while not self._llm.errored:
                await asyncio.sleep(LOOK_SECONDS)
                silence.look(time.monotonic(), heard=asking.done())
                if asking.done():
                    _seen(asking)
                    asking = asyncio.ensure_future(self._llm.collective_rpc("hotshoe_hello"))
                elif silence.seconds > self._silence_seconds:
                    self._kill(silence.seconds)
        finally:
            asking.cancel()

    def _kill(self, seconds: float) -> None:
        for process in self._llm.engine_core.resources.engine_manager.processes:
            if process.is_alive():
                log.error("the engine's process %d was silent for %.0f s: it is killed", process.pid, seconds)
                process.kill()


def _seen(asking: asyncio.Future[Any]) -> None:
    if not asking.cancelled():
        asking.exception()
