"""Leases on loaded adapters: one load per version, nothing unloaded while a request uses it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from hotshoe.adapter.errors import AdapterLoadFailed, HotshoeError, Refused
from hotshoe.adapter.version import Version
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.serve.failures import Failures
from hotshoe.serve.journal import Journal
from hotshoe.serve.residency import Sightings
from hotshoe.serve.slots import Load, Slots, Wait
from hotshoe.wire.admin import Occupancy, Residency

log = logging.getLogger(__name__)

FETCHES_AT_ONCE = 8

Result = TypeVar("Result")


class Source(Protocol):
    """Where a pool takes versions from. Blocking: called in threads."""

    def take(self, version: Version) -> Path:
        """The version's verified folder, which stays as it is until it is given back."""
        ...

    def give_back(self, version: Version) -> None:
        """The folder of one `take` is not needed any more."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """A request's hold on a loaded adapter. load_ms: how long it waited for that; 0 if it was loaded."""

    adapter: EngineAdapter
    load_ms: float


@dataclass(frozen=True, slots=True)
class _Loaded:
    version: Version
    adapter: EngineAdapter


class AdapterPool:
    """Keeps at most `capacity` versions loaded in `engine`, the longest unused leaving first.

    All methods belong to one event loop. A pool lives as long as its engine.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        *,
        capacity: int,
        failures: Failures | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._engine = engine
        self._source = source
        self._failures = failures or Failures()
        self._journal = journal or Journal()
        self._slots = Slots(capacity)
        self._sightings = Sightings()
        # Its own threads: a slow registry must not take those that everybody else needs.
        self._threads = ThreadPoolExecutor(FETCHES_AT_ONCE, thread_name_prefix="adapters")
        self._ids = itertools.count(1)  # Never reused: a failed load can leave its id behind in the engine.
        self._loaded: dict[str, _Loaded] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}
        # Who waits longest for a place gets the next one; who needs none does not stand in this line.
        self._line = asyncio.Lock()
        self._freed = asyncio.Event()
        # In the order of the decisions, so that the engine never holds more than `capacity`.
        self._engine_turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def lease(self, version: Version) -> AsyncIterator[Lease]:
        """Yield the adapter, loaded; it stays loaded until the block ends.

        Raises AdapterLoadFailed, BaseMismatch, Tampered or Unservable if it can't be loaded, for a while
        without another try; RegistryUnavailable or EngineUnavailable if it may be tried again at once.
        """
        name = version.engine_name
        started = time.monotonic()
        self._sightings.wanted(version, self._slots)
        await self._acquire(version)
        load = self._loads.get(name)
        try:
            if load is not None:
                # Shielded: a caller that gives up does not take the load away from those who joined it.
                await asyncio.shield(load)
            waited_ms = (time.monotonic() - started) * 1000 if load else 0.0
            yield Lease(self._loaded[name].adapter, load_ms=waited_ms)
        finally:
            if load is None or not _failed(load):  # A failed load took its leases with it.
                self._slots = self._slots.on_release(name)
                self._freed.set()
                self._sightings.wanted(version, self._slots)

    async def warm(self, version: Version) -> None:
        """Load a version without using it; it stays until its place is needed. Raises as `lease`."""
        async with self.lease(version):
            pass

    async def fetch(self, version: Version) -> None:
        """Have a version's verified files on this machine, so that `lease` only has to load them.

        One fetch for however many callers; neither the engine nor a place in it is needed. Raises as
        `lease`.
        """
        name = version.engine_name
        if name in self._slots.held:
            return
        self._sightings.wanted(version, self._slots)
        self._failures.raise_known(name)
        task = self._fetches.get(name)
        if task is None:
            task = asyncio.create_task(self._fetch(version), name=f"fetch {version}")
            task.add_done_callback(_failed)
            self._fetches[name] = task
        await asyncio.shield(task)

    async def retire(self, version: Version) -> bool:
        """Unload a version if no request uses it; True if it is not loaded any more."""
        name = version.engine_name
        self._slots, unload = self._slots.retire(name)
        if unload:
            self._freed.set()
            self._journal.retired(version)
            await self._unload(self._loaded.pop(name))
        return name not in self._slots.held

    async def pin(self, version: Version) -> None:
        """Load a version and keep it loaded until it is unpinned. Raises as `lease`.

        Raises Refused where no place would be left for what is not pinned.
        """
        async with self.lease(version):
            held = self._slots.held[version.engine_name]
            if not held.pinned and self._slots.pinned + 1 >= self._slots.capacity:
                raise Refused(
                    f"{version} cannot be pinned: {self._slots.pinned} of {self._slots.capacity} places are, "
                    "and the last must stay free: unpin another, or serve with a higher --resident"
                )
            self._slots = self._slots.pin(version.engine_name, pinned=True)

    def unpin(self, version: Version) -> None:
        """Let a version go when its place is needed; one that is not pinned stays as it is."""
        self._slots = self._slots.pin(version.engine_name, pinned=False)
        self._freed.set()

    async def evict(self, version: Version) -> None:
        """Unload a version now, if it is loaded. Raises Refused while a request uses it or it is pinned."""
        name = version.engine_name
        self._slots, unload = self._slots.retire(name)
        if unload:
            self._freed.set()
            self._journal.evicted(version)
            await self._unload(self._loaded.pop(name))
        elif (held := self._slots.held.get(name)) is not None:
            cause = "is pinned: unpin it" if held.pinned else f"is used by {held.leases} requests: wait"
            raise Refused(f"{version} cannot be unloaded now: it {cause}, then try again")

    def residency(self) -> list[Residency]:
        """Where each version is that was wanted here of late."""
        return self._sightings.residency(self._slots, self._fetches)

    def resident(self) -> list[Version]:
        """What is loaded and ready."""
        return [each.version for each in self._loaded.values()]

    def occupancy(self) -> Occupancy:
        """How full it is. The one method that other threads may call too."""
        slots = self._slots
        loading = sum(not each.ready for each in slots.held.values())
        leased = sum(each.leases > 0 for each in slots.held.values())
        return Occupancy(len(slots.held) - loading, loading, leased, slots.capacity, self._engine.facts.slots)

    def leases(self, version: Version) -> int:
        """How many requests use a version, or wait for its load, now."""
        held = self._slots.held.get(version.engine_name)
        return held.leases if held else 0

    async def close(self) -> None:
        """Give up what is under way, and give all folders back. The engine is left as it is."""
        tasks = [*self._loads.values(), *self._fetches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._loaded:
            _, loaded = self._loaded.popitem()
            await self._give_back(loaded.version)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _acquire(self, version: Version) -> None:
        name = version.engine_name
        self._failures.raise_known(name)
        if name in self._slots.held:
            self._slots, _ = self._slots.on_request(name)
            return
        async with self._line:
            while True:
                self._failures.raise_known(name)
                self._slots, command = self._slots.on_request(name)
                if isinstance(command, Load):
                    self._begin(version, command)
                if not isinstance(command, Wait):
                    return
                self._freed.clear()
                await self._freed.wait()

    def _begin(self, version: Version, command: Load) -> None:
        evicted = self._loaded.pop(command.evict) if command.evict else None
        task = asyncio.create_task(self._load(version, evicted), name=f"load {version}")
        task.add_done_callback(_failed)  # Seen, even if every caller has given up by then.
        self._loads[version.engine_name] = task

    async def _load(self, version: Version, evicted: _Loaded | None) -> None:
        name = version.engine_name
        started = time.monotonic()
        try:
            with self._explaining(version):
                if evicted is not None:
                    self._journal.evicted(evicted.version)
                    await self._unload(evicted)
                adapter = await self._add(version)
        except BaseException:
            self._slots = self._slots.on_failed(name)
            raise
        else:
            self._loaded[name] = _Loaded(version, adapter)
            self._slots = self._slots.on_loaded(name)
            self._failures.forget(name)
            self._sightings.loaded(version)
            self._journal.loaded(version, seconds=time.monotonic() - started)
            log.info("loaded %s", version)
        finally:
            del self._loads[name]
            self._freed.set()

    async def _add(self, version: Version) -> EngineAdapter:
        folder = await self._in_thread(self._source.take, version)
        adapter = EngineAdapter(name=version.engine_name, id=next(self._ids), folder=folder)
        try:
            async with self._engine_turn:
                await self._engine.add(adapter)
        except BaseException:
            await self._give_back(version)
            raise
        return adapter

    async def _unload(self, loaded: _Loaded) -> None:
        async with self._engine_turn:
            try:
                await self._engine.remove(loaded.adapter)
            except HotshoeError as error:
                log.warning("unloading %s failed: %s", loaded.version, error)
        await self._give_back(loaded.version)

    async def _give_back(self, version: Version) -> None:
        await self._in_thread(self._source.give_back, version)

    async def _fetch(self, version: Version) -> None:
        try:
            with self._explaining(version):
                await self._in_thread(self._source.take, version)
            await self._give_back(version)
        finally:
            del self._fetches[version.engine_name]

    async def _in_thread(self, work: Callable[[Version], Result], version: Version) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, version)

    @contextlib.contextmanager
    def _explaining(self, version: Version) -> Iterator[None]:
        """Raise what callers get; what lies in the version itself is remembered."""
        try:
            yield
        except HotshoeError as error:
            log.warning("loading %s failed: %s", version, error)
            self._note(version, error)
            raise
        except Exception as error:
            log.exception("loading %s failed", version)
            failure = AdapterLoadFailed(
                f"{version} could not be loaded: {type(error).__name__}; the server's log says more",
                details={"adapter": str(version.adapter), "version": version.tag},
            )
            self._note(version, failure)
            raise failure from error

    def _note(self, version: Version, error: HotshoeError) -> None:
        self._journal.load_failed(version, error)
        self._sightings.failed(version, error)
        if isinstance(error, Refused):
            self._failures.remember(version.engine_name, error)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
