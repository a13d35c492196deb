"""How many messages a second the tokens of all streams go out in; decided in the core, where tokens are made.

A message costs the core, the server and its caller several times what a token in it costs. With few streams
every token goes out as it comes. With more, tokens of one stream are bundled: never the first, never the
end, and never for longer than a reader takes for a word. docs/benchmarks.md has what that is worth.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MESSAGES_PER_SECOND = 500.0
"""Of all streams together, as far as LONGEST_SECONDS allows. One more takes the server 0.15 to 0.2 ms of a
slow processor (reckoned from a table in docs/benchmarks.md): at most a tenth of it goes into sending."""

LONGEST_SECONDS = 0.25
"""A token waits at most that long for company, and for the end of a step, however many streams there are."""

_SHORTEST_SECONDS = 0.005
"""Less would not be felt."""


def seconds_between(streams: int) -> float:
    """Two messages of one of so many streams; 0 where every token is one."""
    wanted = streams / MESSAGES_PER_SECOND
    return 0.0 if wanted < _SHORTEST_SECONDS else min(wanted, LONGEST_SECONDS)


@dataclass(slots=True)
class _Stream:
    """due: when its next message is. held: what is to be in it so far."""

    due: float
    held: Any = None


class Pace:
    """Bundles what a core makes for each of its streams."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def tell(self, outputs: Sequence[Any], requests: Container[str], seconds: float, now: float) -> list[Any]:
        """What to tell of now: of the outputs of a step (vLLM's `EngineCoreOutput`), and of what was held.

        requests: the ids of those that go on. seconds: between two messages of a stream. now: on any clock.
        """
        told = [bundle for output in outputs if (bundle := self._bundled(output, requests, seconds, now))]
        for name, stream in list(self._streams.items()):
            if name not in requests:  # It ended, or was called off; then nobody waits for what is held.
                del self._streams[name]
            elif stream.held is not None and stream.due <= now:  # It sat this step out.
                told.append(stream.held)
                stream.held, stream.due = None, now + seconds
        return told

    def _bundled(self, output: Any, requests: Container[str], seconds: float, now: float) -> Any | None:
        stream = self._streams.get(output.request_id)
        if stream is None:
            if output.request_id in requests:
                self._streams[output.request_id] = _Stream(now + seconds)
            return output
        if stream.held is not None:
            _put_before(stream.held, output)
            stream.held = None
        if now < stream.due and output.finish_reason is None and not output.events:
            stream.held = output
            return None
        stream.due = now + seconds
        return output


def _put_before(held: Any, output: Any) -> None:
    """Make one output of two, of several tokens, such as vLLM has where it guesses tokens ahead.

    What lies behind a word to stop at is cut off where vLLM looks for it, in the server.
    """
    output.new_token_ids = held.new_token_ids + output.new_token_ids
    before, after = held.new_logprobs, output.new_logprobs
    if before is not None and after is not None:
        # Tokens, their log probabilities and ranks, a row for each place.
        output.new_logprobs = type(before)(*map(np.concatenate, zip(before[:3], after[:3], strict=True)))
    elif before is not None:
        output.new_logprobs = before


class Paced:
    """Mixed into vLLM's schedulers: what a step made is told of at the pace of the streams that run."""

    requests: dict[str, Any]
    running: list[Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pace = Pace()

    def update_from_output(self, *arguments: Any, **named: Any) -> Any:
        found = super().update_from_output(*arguments, **named)  # type: ignore[misc]
        seconds, now = seconds_between(len(self.running)), time.monotonic()
        for step in found.values():  # One: there is one server, and vLLM's statistics come with every step.
            step.outputs = self._pace.tell(step.outputs, self.requests, seconds, now)
        return found
