"""Brings versions to this machine, in threads of its own: a slow registry delays nobody else."""

from __future__ import annotations

import asyncio
import functools
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotshoe.adapter.version import Version
from hotshoe.serve.failures import Failures

log = logging.getLogger(__name__)

FETCHES_AT_ONCE = 8

KEPT_SECONDS = 10.0
"""What was brought is held for so long, so that the load that follows need not look for its files once more.
No longer: nobody looks whether they are still what they were."""

KEPT = 64
"""So many at once at most: each holds a file open, and somebody may ask for ever new versions."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A version's verified folder, which stays as it is until it is given back.

    size: the bytes of the engine's memory that its weights will take.
    """

    folder: Path
    size: int


class Source(Protocol):
    """Where versions are taken from. Blocking: called in threads."""

    def take(self, version: Version) -> Taken:
        """The version, verified, until it is given back."""
        ...

    def give_back(self, version: Version) -> None:
        """The folder of one `take` is not needed any more."""
        ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """until: ends the keeping."""

    version: Version
    taken: Taken
    until: asyncio.TimerHandle


class Fetcher:
    """A source for an event loop. All methods belong to that loop."""

    def __init__(self, source: Source, failures: Failures) -> None:
        self._source = source
        self._failures = failures
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="adapters")
        self._under_way: dict[str, asyncio.Task[int]] = {}
        self._kept: dict[str, _Kept] = {}

    async def take(self, version: Version) -> Taken:
        """The version, verified, until it is given back; cancelled, nothing is to give back."""
        if kept := self._kept.pop(version.engine_name, None):
            kept.until.cancel()
            return kept.taken
        taking = self._threads.submit(self._source.take, version)
        try:
            return await asyncio.wrap_future(taking)
        except asyncio.CancelledError:
            # The thread goes on if it has begun, and nobody else would give back what it gets.
            taking.add_done_callback(functools.partial(self._give_back_unasked, version))
            raise

    async def give_back(self, version: Version) -> None:
        """The folder of one `take` is not needed any more. Done even if the caller is cancelled."""
        giving = self._threads.submit(self._give_back, version)
        await asyncio.shield(asyncio.wrap_future(giving))

    async def bring(self, version: Version) -> int:
        """Have the version's files on this machine; the bytes of the engine's memory that they will take.

        One fetch for however many callers.
        """
        name = version.engine_name
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.create_task(self._bring(version), name=f"fetch {version}")
            task.add_done_callback(_seen)
            self._under_way[name] = task
        return await asyncio.shield(task)

    def under_way(self) -> frozenset[str]:
        """Engine names of what is being brought now."""
        return frozenset(self._under_way)

    async def close(self) -> None:
        """Give up what is under way, and give back what is kept."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for kept in list(self._kept.values()):
            kept.until.cancel()
            self._let_go(kept.version)
        self._threads.shutdown(wait=False)

    async def _bring(self, version: Version) -> int:
        try:
            with self._failures.watching(version):
                taken = await self.take(version)
            if len(self._kept) < KEPT:
                until = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._let_go, version)
                self._kept[version.engine_name] = _Kept(version, taken, until)
            else:
                await self.give_back(version)
            return taken.size
        finally:
            del self._under_way[version.engine_name]

    def _let_go(self, version: Version) -> None:
        """Give back what is kept."""
        del self._kept[version.engine_name]
        self._threads.submit(self._give_back, version)

    def _give_back(self, version: Version) -> None:
        try:
            self._source.give_back(version)
        except Exception:  # It stays on disk; no caller's request fails for that.
            log.exception("giving back %s failed", version)

    def _give_back_unasked(self, version: Version, taking: Future[Taken]) -> None:
        if not taking.cancelled() and taking.exception() is None:
            self._give_back(version)


def _seen(task: asyncio.Task[int]) -> None:
    """Take note of an error that every caller gave up waiting for."""
    if not task.cancelled():
        task.exception()
