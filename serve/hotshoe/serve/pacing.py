"""How many messages a second the tokens of all streams go out in; decided in the core, where tokens are made.

A message costs the core, the server and its caller several times what a token in it costs. With few streams
every token goes out as it comes. With many, tokens of one stream are bundled: never the first, never the
end, and never for longer than a reader takes for a word. docs/benchmarks.md has what that is worth.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MESSAGES_PER_SECOND = 1_000.0
"""Of all streams together; the server's core is then a tenth busy with sending."""

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
    """patient: it may be bundled. due: when its next message is. held: what is to be in it so far."""

    patient: bool
    due: float
    held: Any = None


class Pace:
    """Bundles what a core makes for each of its streams."""

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def due(
        self, outputs: Sequence[Any], requests: Mapping[str, Any], seconds: float, now: float
    ) -> list[Any]:
        """What to tell of now: of the outputs of a step (vLLM's `EngineCoreOutput`), and of what was held.

        requests: those that go on, by id. seconds: between two messages of a stream. now: on any clock.
        """
        told = [bundle for output in outputs if (bundle := self._told(output, requests, seconds, now))]
        for name, stream in list(self._streams.items()):
            if name not in requests:  # It ended, or was called off; then nobody waits for what is held.
                del self._streams[name]
            elif stream.held is not None and stream.due <= now:  # It sat this step out.
                told.append(stream.held)
                stream.held, stream.due = None, now + seconds
        return told

    def _told(self, output: Any, requests: Mapping[str, Any], seconds: float, now: float) -> Any | None:
        stream = self._streams.get(output.request_id)
        if stream is None:
            request = requests.get(output.request_id)
            if request is not None:
                self._streams[output.request_id] = _Stream(_is_patient(request), now + seconds)
            return output
        if stream.held is not None:
            # One output of several tokens, such as vLLM makes where it guesses ahead.
            output.new_token_ids = stream.held.new_token_ids + output.new_token_ids
            stream.held = None
        if now < stream.due and stream.patient and output.finish_reason is None and not output.events:
            stream.held = output
            return None
        stream.due = now + seconds
        return output


def _is_patient(request: Any) -> bool:
    """Not where the server looks for words to stop at: the core would go on past them meanwhile.

    Nor with log probabilities, which are not bundled here.
    """
    params = request.sampling_params
    return not params.stop and params.logprobs is None and params.prompt_logprobs is None


class Paced:
    """Mixed into vLLM's schedulers."""

    requests: dict[str, Any]
    running: list[Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._pace = Pace()

    def update_from_output(self, *arguments: Any, **named: Any) -> Any:
        found = super().update_from_output(*arguments, **named)  # type: ignore[misc]
        seconds, now = seconds_between(len(self.running)), time.monotonic()
        for step in found.values():  # One, as there is one server.
            step.outputs = self._pace.due(step.outputs, self.requests, seconds, now)
        return found
