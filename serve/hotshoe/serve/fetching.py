"""Brings versions to this machine, in threads of its own: a slow registry delays nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from hotshoe.adapter.version import Version
from hotshoe.serve.failures import Failures

FETCHES_AT_ONCE = 8

Result = TypeVar("Result")


class Source(Protocol):
    """Where versions are taken from. Blocking: called in threads."""

    def take(self, version: Version) -> Path:
        """The version's verified folder, which stays as it is until it is given back."""
        ...

    def give_back(self, version: Version) -> None:
        """The folder of one `take` is not needed any more."""
        ...


class Fetcher:
    """A source for an event loop. All methods belong to that loop."""

    def __init__(self, source: Source, failures: Failures) -> None:
        self._source = source
        self._failures = failures
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="adapters")
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def take(self, version: Version) -> Path:
        """The version's verified folder, there until it is given back."""
        return await self._in_thread(self._source.take, version)

    async def give_back(self, version: Version) -> None:
        """The folder of one `take` is not needed any more."""
        await self._in_thread(self._source.give_back, version)

    async def bring(self, version: Version) -> None:
        """Have the version's files on this machine; one fetch for however many callers."""
        name = version.engine_name
        task = self._under_way.get(name)
        if task is None:
            task = asyncio.create_task(self._bring(version), name=f"fetch {version}")
            task.add_done_callback(_seen)
            self._under_way[name] = task
        await asyncio.shield(task)

    def under_way(self) -> frozenset[str]:
        """Engine names of what is being brought now."""
        return frozenset(self._under_way)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _bring(self, version: Version) -> None:
        try:
            with self._failures.watching(version):
                await self.take(version)
            await self.give_back(version)
        finally:
            del self._under_way[version.engine_name]

    async def _in_thread(self, work: Callable[[Version], Result], version: Version) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, version)


def _seen(task: asyncio.Task[None]) -> None:
    """Take note of an error that every caller gave up waiting for."""
    if not task.cancelled():
        task.exception()
