"""One request on its way through the server, and who is told about it: metrics, ledger, logs, spans."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from hotshoe.adapter.errors import Cancelled, HotshoeError
from hotshoe.wire.values import FinishReason, Prompt, Resolved, Usage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from.

    tenant: who calls; empty where nobody is asked. trace: the caller's W3C trace headers.
    request_id: the caller's own name for the request, for logs only.
    """

    tenant: str = ""
    trace: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


class Observer:
    """Is told about every call. Each method returns at once; what it raises is logged and harms nobody."""

    def on_begin(self, call: Call) -> None:
        """A request arrived; nothing is known yet but where from."""

    def on_resolved(self, call: Call) -> None:
        """The version that answers is chosen and loaded."""

    def on_tokens(self, call: Call, tokens: int, gap_seconds: float) -> None:
        """Output came, `gap_seconds` after the output before it; the first one after the arrival."""

    def on_end(self, call: Call) -> None:
        """It is over; `call.outcome` says how."""


class Call:
    """What is known of one request, filled in as it goes on. Times are seconds of time.monotonic.

    It runs as long as the block that it is used in (`with`); the observers are told of begin and end.
    id: the server's own name for it. outcome: "OK" or the reason of the error that ended it; empty while
    it runs. prompt: as it was asked; not for logs, unless an operator wants it there. chunks: pieces of
    output so far. Belongs to one event loop.
    """

    def __init__(
        self,
        request_id: str,
        origin: Origin | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.id = request_id
        self.origin = origin or Origin()
        self.outcome = ""
        self.prompt: Prompt | None = None
        self.resolved: Resolved | None = None
        self.finish_reason: FinishReason | None = None
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.chunks = 0
        self.queue_ms = 0.0
        self.load_ms = 0.0
        self.first_token_ms = 0.0
        self.began = time.monotonic()
        self._last = self.began
        self._observers = observers

    def __enter__(self) -> Call:
        self._tell(lambda observer: observer.on_begin(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        match error:
            case None:
                self.outcome = "OK"
            case asyncio.CancelledError() | GeneratorExit():
                # Whoever has read the last message may leave without asking for more.
                self.outcome = "OK" if self.finish_reason else Cancelled.reason
            case HotshoeError():
                self.outcome = error.reason
            case _:
                self.outcome = HotshoeError.reason
        self._tell(lambda observer: observer.on_end(self))

    def on_resolved(self, resolved: Resolved, *, load_ms: float) -> None:
        """`resolved` answers; loading it took `load_ms`, 0 if it was loaded."""
        self.resolved, self.load_ms = resolved, load_ms
        self._tell(lambda observer: observer.on_resolved(self))

    def on_tokens(self, tokens: int, *, cached_tokens: int) -> None:
        """The engine made output; cached_tokens is of the prompt."""
        now = time.monotonic()
        gap, self._last = now - self._last, now
        self.first_token_ms = self.first_token_ms or (now - self.began) * 1000
        self.cached_tokens = cached_tokens
        self.output_tokens += tokens
        self.chunks += 1
        self._tell(lambda observer: observer.on_tokens(self, tokens, gap))

    @property
    def seconds(self) -> float:
        """Since its arrival."""
        return time.monotonic() - self.began

    @property
    def usage(self) -> Usage:
        """What it cost so far."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            output_tokens=self.output_tokens,
            load_ms=self.load_ms,
            first_token_ms=self.first_token_ms,
            queue_ms=self.queue_ms,
        )

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:
                log.exception("an observer of calls failed")
