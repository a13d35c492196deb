"""Calls that end before they are requests: no key that is known, a message that makes no sense."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import TracebackType

from hotshoe.adapter.errors import HotshoeError
from hotshoe.serve.logs import FIELDS, calls_log

Listener = Callable[[str, str], None]


class Refusals:
    """Tells of errors that no observer of calls hears of, because no `Call` had begun.

    listeners: told the method and the error's reason. What they raise goes to the caller.
    """

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    def noted(self, method: str, request_id: str) -> Noting:
        """For `with`: count and log what the block raises.

        The message stays out of the log: it may quote the request.
        """
        return Noting(self.listeners, method, request_id)


class Noting:
    """See `Refusals.noted`."""

    def __init__(self, listeners: Sequence[Listener], method: str, request_id: str) -> None:
        self._listeners = listeners
        self._method = method
        self._request_id = request_id

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, HotshoeError):
            return
        for listener in self._listeners:
            listener(self._method, error.reason)
        if calls_log.isEnabledFor(logging.INFO):
            fields = {"request_id": self._request_id, "method": self._method, "outcome": error.reason}
            calls_log.info("%s %s", error.reason, self._method, extra={FIELDS: fields})
