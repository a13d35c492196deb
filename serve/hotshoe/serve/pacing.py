"""How many messages a second the tokens of all streams go out in; decided in the core, where tokens are made.

A message costs the core, the server and its caller several times what a token in it costs. With few streams
every token goes out as it comes. With more, tokens are bundled: never a stream's first, never its end, and
never for longer than a reader takes for a word. All bundles go out in the same step, since to wake up the
server costs as much as what it is told. docs/benchmarks.md has what that is worth.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from vllm.v1.engine import EngineCoreOutput

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


class Pace:
    """Bundles what a core makes for each of its streams."""

    def __init__(self) -> None:
        self._begun: set[str] = set()
        self._held: dict[str, EngineCoreOutput] = {}
        self._due = 0.0

    def due(self, now: float) -> bool:
        """Whether everything is told of now. now: on the clock of `tell`."""
        return now >= self._due

    def hold(self, name: str, token: int) -> None:
        """Take a token of a stream that has begun, to be told of when it is due."""
        if (held := self._held.get(name)) is None:
            self._held[name] = EngineCoreOutput(name, [token])
        else:
            held.new_token_ids.append(token)

    def tell(
        self, outputs: Sequence[EngineCoreOutput], requests: Collection[str], seconds: float, now: float
    ) -> list[EngineCoreOutput]:
        """What to tell of now: of the outputs of a step, and of what was held.

        requests: those that go on, by their ids. seconds: until what is held now is due. now: on any clock.
        """
        due = self.due(now)
        told = [output for each in outputs if (output := self._bundled(each, due)) is not None]
        # They ended, or were called off; then nobody waits for what is held.
        for name in self._begun.difference(requests):
            self._begun.remove(name)
            self._held.pop(name, None)
        if due:
            told += self._held.values()  # Of those who sat this step out.
            self._held.clear()
            self._due = now + seconds
        return told

    def _bundled(self, output: EngineCoreOutput, due: bool) -> EngineCoreOutput | None:
        name = output.request_id
        if name not in self._begun:
            self._begun.add(name)
            return output
        if (held := self._held.pop(name, None)) is not None:
            _put_before(held, output)
        if due or output.finish_reason is not None or output.events:
            return output
        self._held[name] = output
        return None


def _put_before(held: EngineCoreOutput, output: EngineCoreOutput) -> None:
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
        for step in found.values():  # One: there is one server.
            step.outputs = self._pace.tell(step.outputs, self.requests, seconds, now)
        return {server: step for server, step in found.items() if _says_something(step)}

    def make_stats(self, *figures: Any, **named: Any) -> Any:
        """Of a step, only when all is told of; until then vLLM counts on, since these are what came since."""
        nothing_new = bool(figures) and not any((*figures, *named.values()))
        if nothing_new and self.running and not self._pace.due(time.monotonic()):
            return None
        return super().make_stats(*figures, **named)  # type: ignore[misc]


def _says_something(step: Any) -> bool:
    return bool(step.outputs or step.finished_requests or step.scheduler_stats)
