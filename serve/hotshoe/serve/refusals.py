"""Calls that end before they are requests: no key that is known, a message that makes no sense."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from hotshoe.adapter.errors import HotshoeError
from hotshoe.serve.logs import FIELDS, calls_log

Listener = Callable[[str, str], None]


class Refusals:
    """Tells of errors that no observer of calls hears of, because no `Call` had begun.

    listeners: told the method and the error's reason. What they raise goes to the caller.
    """

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    @contextlib.contextmanager
    def noted(self, method: str, request_id: str) -> Iterator[None]:
        """Count and log what the block raises. The message stays out of the log: it may quote the request."""
        try:
            yield
        except HotshoeError as error:
            for listener in self.listeners:
                listener(method, error.reason)
            if calls_log.isEnabledFor(logging.INFO):
                fields = {"request_id": request_id, "method": method, "outcome": error.reason}
                calls_log.info("%s %s", error.reason, method, extra={FIELDS: fields})
            raise
