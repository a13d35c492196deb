"""Leases on loaded adapters: one load per version, nothing unloaded while a request uses it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from hotshoe.adapter.errors import AdapterLoadFailed, HotshoeError, Refused
from hotshoe.adapter.version import Version
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.serve.slots import Join, Load, Slots, Use, Wait

log = logging.getLogger(__name__)

FAILURE_MEMORY_SECONDS = 30.0
FAILURES_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Lease:
    """A request's hold on a loaded adapter. load_ms: how long it waited for that."""

    adapter: EngineAdapter
    load_ms: float


@dataclass(frozen=True, slots=True)
class _Loaded:
    version: Version
    adapter: EngineAdapter


class AdapterPool:
    """Keeps at most `capacity` versions loaded in `engine`, the longest unused leaving first.

    fetch: blocking; gives a version's verified, immutable folder; called in a thread.
    All methods belong to one event loop.
    """

    def __init__(self, engine: Engine, fetch: Callable[[Version], Path], *, capacity: int) -> None:
        self._engine = engine
        self._fetch = fetch
        self._slots = Slots(capacity)
        self._ids = itertools.count(1)  # Never reused: a failed load can leave its id behind in the engine.
        self._loaded: dict[str, _Loaded] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, tuple[float, Refused]] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()
        # In the order of the decisions, so that the engine never holds more than `capacity`.
        self._engine_turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def lease(self, version: Version) -> AsyncIterator[Lease]:
        """Yield the adapter, loaded; it stays loaded until the block ends.

        Raises AdapterLoadFailed, Tampered, Unservable or RegistryUnavailable if it can't be loaded; for
        half a minute after a failure the same answer is given without another try.
        """
        name = version.engine_name
        started = time.monotonic()
        await self._acquire(version)
        load = self._loads.get(name)
        try:
            if load is not None:
                # Shielded: a caller that gives up does not take the load away from those who joined it.
                await asyncio.shield(load)
            yield Lease(
                self._loaded[name].adapter, load_ms=(time.monotonic() - started) * 1000 if load else 0.0
            )
        finally:
            if load is None or not _failed(load):  # A failed load took its leases with it.
                self._slots = self._slots.on_release(name)
                self._wake_waiters()

    async def warm(self, version: Version) -> None:
        """Load a version without using it; it stays until its place is needed."""
        async with self.lease(version):
            pass

    async def retire(self, version: Version) -> bool:
        """Unload a version if no request uses it; True if it is unloaded now or was not loaded at all."""
        name = version.engine_name
        self._slots, unload = self._slots.retire(name)
        if unload:
            await self._unload(self._loaded.pop(name))
            self._wake_waiters()
        return name not in self._slots.held

    def resident(self) -> list[tuple[str, str]]:
        """Adapter and tag (`acme/support`, `v7`) of what is loaded and ready."""
        return [(str(each.version.adapter), each.version.tag) for each in self._loaded.values()]

    def leases(self, version: Version) -> int:
        """How many requests use a version now."""
        held = self._slots.held.get(version.engine_name)
        return held.leases if held else 0

    async def close(self) -> None:
        """Give up loads that are under way."""
        tasks = list(self._loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _acquire(self, version: Version) -> None:
        name = version.engine_name
        while True:
            self._raise_remembered(name)
            self._slots, command = self._slots.on_request(name)
            match command:
                case Use() | Join():
                    return
                case Load(evict):
                    evicted = self._loaded.pop(evict) if evict else None
                    task = asyncio.create_task(self._load(version, evicted), name=f"load {version}")
                    task.add_done_callback(_failed)  # Seen, even if every caller has given up by then.
                    self._loads[name] = task
                    return
                case Wait():
                    freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiters.append(freed)
                    await freed

    async def _load(self, version: Version, evicted: _Loaded | None) -> None:
        name = version.engine_name
        try:
            if evicted is not None:
                await self._unload(evicted)
            folder = await asyncio.to_thread(self._fetch, version)
            adapter = EngineAdapter(name=name, id=next(self._ids), folder=folder)
            async with self._engine_turn:
                await self._engine.add(adapter)
        except BaseException as error:
            self._slots = self._slots.on_failed(name)
            explained = self._explained(version, error)
            if explained is error:
                raise
            raise explained from error
        else:
            self._loaded[name] = _Loaded(version, adapter)
            self._slots = self._slots.on_loaded(name)
            log.info("loaded %s", version)
        finally:
            del self._loads[name]
            self._wake_waiters()

    async def _unload(self, loaded: _Loaded) -> None:
        async with self._engine_turn:
            try:
                await self._engine.remove(loaded.adapter)
            except HotshoeError as error:
                log.warning("unloading %s failed: %s", loaded.version, error)

    def _wake_waiters(self) -> None:
        while self._waiters:
            if not (waiter := self._waiters.popleft()).done():
                waiter.set_result(None)

    def _explained(self, version: Version, error: BaseException) -> BaseException:
        """The error that callers get; one that lies in the adapter itself is remembered."""
        if isinstance(error, Refused):
            log.warning("loading %s failed: %s", version, error)
            self._remember(version.engine_name, error)
        if isinstance(error, HotshoeError) or not isinstance(error, Exception):
            return error
        log.error("loading %s failed", version, exc_info=error)
        return AdapterLoadFailed(
            f"{version} could not be loaded: {type(error).__name__}; the server's log says more"
        )

    def _remember(self, name: str, error: Refused) -> None:
        self._failures.pop(name, None)
        self._failures[name] = (time.monotonic() + FAILURE_MEMORY_SECONDS, error)
        if len(self._failures) > FAILURES_REMEMBERED:
            del self._failures[next(iter(self._failures))]

    def _raise_remembered(self, name: str) -> None:
        if (failure := self._failures.get(name)) is None:
            return
        until, error = failure
        if time.monotonic() >= until:
            del self._failures[name]
            return
        raise type(error)(error.message, details=error.details)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
