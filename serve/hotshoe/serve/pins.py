"""Keeps loaded what the operator's settings name, whatever its aliases move to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence

from hotshoe.adapter.errors import HotshoeError
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.serve.catalog import Catalog
from hotshoe.serve.pool import AdapterPool

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
RETRY_SECONDS = 15.0
"""After a failure: the version may be bad for long, and the registry away."""

FIRST_SECONDS = 60.0
"""How long a server's start waits for its pins; what is not loaded by then goes on loading."""


class Pins:
    """Pins what `refs` mean now, and follows their aliases. All methods belong to one event loop.

    What an operator pins by hand beside that stays as it is.
    """

    def __init__(self, refs: Sequence[AdapterRef], catalog: Catalog, pool: AdapterPool) -> None:
        self._refs = refs
        self._catalog = catalog
        self._pool = pool
        self._pinned: dict[AdapterRef, tuple[Version, ...]] = {}
        self._retry_at: dict[AdapterRef, float] = {}

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Load and pin them, for `FIRST_SECONDS` at most; then keep it true until the block ends.

        What cannot be loaded is logged and tried again, and keeps nobody from being served.
        """
        first = asyncio.create_task(self.look(), name="load pins")
        await asyncio.wait([first], timeout=FIRST_SECONDS)
        keeping = asyncio.create_task(self._keep(first), name="keep pins")
        try:
            yield
        finally:
            for task in (first, keeping):
                task.cancel()
            await asyncio.gather(first, keeping, return_exceptions=True)

    async def look(self) -> None:
        """Pin what the references mean now, and let go what only they meant before."""
        await asyncio.gather(*map(self._look_at, self._refs))

    async def _keep(self, first: asyncio.Task[None]) -> None:
        await asyncio.wait([first])
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except Exception:
                log.exception("pins cannot be kept now, trying again")

    async def _look_at(self, ref: AdapterRef) -> None:
        now = time.monotonic()
        if now < self._retry_at.get(ref, 0.0):
            return
        try:
            versions = await self._catalog.versions(ref)
            before = self._pinned.get(ref, ())
            self._pinned[ref] = versions
            for version in before:
                # First, for the one that comes may need its room.
                if not any(version in each for each in self._pinned.values()):
                    self._pool.unpin(version)
            for version in versions:
                if not self._pool.pinned(version):
                    await self._pool.fetch(version)
                    await self._pool.pin(version)
        except HotshoeError as error:
            self._retry_at[ref] = now + RETRY_SECONDS
            log.warning("%s is to stay loaded, and cannot be: %s", ref, error)
