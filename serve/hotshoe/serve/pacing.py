"""How many messages a second the tokens of all streams go out in.

A message costs the server several times what a token in it costs. With few streams every token goes out
as it comes. With many, tokens of one stream are bundled: never the first, and never for longer than a reader
takes for a word. docs/benchmarks.md has what that is worth.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any

MESSAGES_PER_SECOND = 1_000.0
"""Of all streams together; the server's core is then a tenth busy with sending."""

LONGEST_SECONDS = 0.25
"""A token waits at most that long for company, however many streams there are."""

_TICK_SECONDS = 0.005


class Pace:
    """Spaces the messages of every stream of one server. Belongs to one event loop."""

    def __init__(
        self, messages_per_second: float = MESSAGES_PER_SECOND, longest_seconds: float = LONGEST_SECONDS
    ) -> None:
        self._messages_per_second = messages_per_second
        self._longest_seconds = longest_seconds
        self.streams = 0
        """How many there are now."""
        self._resting: dict[asyncio.Future[None], tuple[float, Callable[[], bool]]] = {}
        self._ticking = False

    @property
    def seconds(self) -> float:
        """Between two messages of a stream; 0 while there are so few that it would not be felt."""
        wanted = self.streams / self._messages_per_second
        return 0.0 if wanted < _TICK_SECONDS else min(wanted, self._longest_seconds)

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a stream until the block ends."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    async def rest(self, ended: Callable[[], bool]) -> None:
        """Return after `seconds`, or soon after `ended` says that no more tokens will come."""
        seconds = self.seconds
        if not seconds or ended():
            return
        loop = asyncio.get_running_loop()
        awake: asyncio.Future[None] = loop.create_future()
        self._resting[awake] = (loop.time() + seconds, ended)
        if not self._ticking:
            self._ticking = True
            loop.call_later(_TICK_SECONDS, self._tick, loop)
        try:
            await awake
        finally:
            self._resting.pop(awake, None)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        # One timer for all of them: a timer each would cost as much as the messages that are saved.
        now = loop.time()
        for awake, (due, ended) in self._resting.items():
            if not awake.done() and (now >= due or ended()):
                awake.set_result(None)
        self._ticking = bool(self._resting)
        if self._ticking:
            loop.call_later(_TICK_SECONDS, self._tick, loop)


async def paced(
    llm: Any, pace: Pace, prompt: Mapping[str, Any], params: Any, request_id: str, lora: Any
) -> AsyncGenerator[Any, None]:
    """What `AsyncLLM.generate` yields, at a pace: what came meanwhile is one output, as vLLM merges it.

    Closing it ends the request inside the engine.
    """
    with pace.one_more():
        queue = await llm.add_request(request_id, prompt, params, lora_request=lora)
        try:
            finished = False
            while not finished:
                output = queue.get_nowait() or await queue.get()
                finished = output.finished
                yield output
                if not finished:
                    await pace.rest(lambda: _ended(queue.output))
        except BaseException:
            if not llm.errored:
                await llm.abort(queue.request_id, internal=True)
            raise


def _ended(waiting: Any) -> bool:
    """Whether what waits in a queue is an answer's end: an error, or the last output."""
    return isinstance(waiting, Exception) or (waiting is not None and waiting.finished)
