"""What happens to adapters in this server, told to those who follow it: metrics, logs, operators."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime

from hotshoe.adapter.errors import HotshoeError
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.wire.admin import Happening, What

log = logging.getLogger(__name__)

UNREAD = 1024

Reader = Callable[[Happening], None]


class Journal:
    """Tells happenings to its readers, in order. All methods belong to one event loop and return at once."""

    def __init__(self) -> None:
        self._readers: list[Reader] = []

    def read_by(self, reader: Reader) -> None:
        """Tell `reader` everything from now on; what it raises is logged and harms nobody."""
        self._readers.append(reader)

    @contextlib.contextmanager
    def following(self) -> Iterator[AsyncIterator[Happening]]:
        """Yield what happens from now on, until the block ends.

        Whoever is slower than the server for long misses the oldest: `UNREAD` wait at most.
        """
        unread: deque[Happening] = deque(maxlen=UNREAD)
        news = asyncio.Event()

        def note(happening: Happening) -> None:
            unread.append(happening)
            news.set()

        async def read() -> AsyncIterator[Happening]:
            while True:
                await news.wait()
                news.clear()
                while unread:
                    yield unread.popleft()

        self._readers.append(note)
        try:
            yield read()
        finally:
            self._readers.remove(note)

    def loaded(self, version: Version, *, seconds: float) -> None:
        self._tell(What.LOADED, version, seconds=seconds)

    def load_failed(self, version: Version, error: HotshoeError) -> None:
        self._tell(What.LOAD_FAILED, version, reason=error.reason, message=error.message)

    def evicted(self, version: Version) -> None:
        self._tell(What.EVICTED, version)

    def retired(self, version: Version) -> None:
        self._tell(What.RETIRED, version)

    def moved(self, alias: AdapterRef, *, now: str, before: str) -> None:
        """`alias` answers with `now`, texts of targets such as `v7` or `v8:10,v7:90`."""
        self._put(_of_alias(What.MOVED, alias, version=now, message=f"was {before}"))

    def stuck(self, alias: AdapterRef, error: HotshoeError) -> None:
        """`alias` should answer with another version, but that one cannot be loaded."""
        self._put(_of_alias(What.STUCK, alias, reason=error.reason, message=error.message))

    def _tell(
        self, what: What, version: Version, *, seconds: float = 0.0, reason: str = "", message: str = ""
    ) -> None:
        self._put(
            Happening(
                what,
                datetime.now(UTC),
                str(version.adapter),
                version.tag,
                seconds=seconds,
                reason=reason,
                message=message,
            )
        )

    def _put(self, happening: Happening) -> None:
        for reader in [*self._readers]:
            try:
                reader(happening)
            except Exception:
                log.exception("a reader of the journal failed")


def _of_alias(
    what: What, alias: AdapterRef, *, version: str = "", reason: str = "", message: str = ""
) -> Happening:
    return Happening(
        what,
        datetime.now(UTC),
        str(alias.adapter),
        version,
        alias=str(alias.selector),
        reason=reason,
        message=message,
    )
