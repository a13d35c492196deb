"""Leases on loaded adapters: one load per version, nothing unloaded while a request uses it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from hotshoe.adapter.errors import AdapterLoadFailed, EngineUnavailable, HotshoeError, Refused
from hotshoe.adapter.version import Version
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.serve.failures import Failures
from hotshoe.serve.fetching import Fetcher, Source
from hotshoe.serve.journal import Journal
from hotshoe.serve.residency import Sightings
from hotshoe.serve.slots import Load, Slots, Wait
from hotshoe.wire.admin import Occupancy, Residency

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """A request's hold on a loaded adapter. load_ms: how long it waited for that; 0 if it was loaded."""

    adapter: EngineAdapter
    load_ms: float


@dataclass(frozen=True, slots=True)
class _Loaded:
    version: Version
    adapter: EngineAdapter


@dataclass(slots=True)
class _Stock:
    """What one engine holds. An engine that dies takes its stock with it; the next one begins anew."""

    slots: Slots
    loaded: dict[str, _Loaded] = field(default_factory=dict)
    loads: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class AdapterPool:
    """Keeps at most `capacity` versions loaded in `engine`, the longest unused leaving first.

    All methods belong to one event loop.
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
        self._failures = failures or Failures()
        self._fetcher = Fetcher(source, self._failures)
        self._journal = journal or Journal()
        self._sightings = Sightings()
        self._failures.listeners += [self._journal.load_failed, self._sightings.failed]
        self._stock = _Stock(Slots(capacity))
        self._to_pin: list[Version] = []
        self._ids = itertools.count(1)  # Never reused: a failed load can leave its id behind in the engine.
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
        An AdapterLoadFailed of the block itself leaves it as EngineUnavailable if the engine died meanwhile.
        """
        name = version.engine_name
        started = time.monotonic()
        self._sightings.wanted(version, self._stock.slots)
        stock = await self._acquire(version)
        load = stock.loads.get(name)
        try:
            if load is not None:
                await _join(load)
            if stock is not self._stock:
                raise EngineUnavailable("the engine died while the adapter was loaded: try again")
            waited_ms = (time.monotonic() - started) * 1000 if load else 0.0
            yield Lease(stock.loaded[name].adapter, load_ms=waited_ms)
        except AdapterLoadFailed as error:
            if stock is self._stock:
                raise
            # The next engine does not know it, which says nothing about the adapter.
            raise EngineUnavailable("the engine died before it answered: try again") from error
        finally:
            if load is None or not _failed(load):  # A failed load took its leases with it.
                stock.slots = stock.slots.on_release(name)
                self._freed.set()
                self._sightings.wanted(version, self._stock.slots)

    async def warm(self, version: Version) -> None:
        """Load a version without using it; it stays until its place is needed. Raises as `lease`."""
        async with self.lease(version):
            pass

    async def fetch(self, version: Version) -> None:
        """Have a version's verified files on this machine, so that `lease` only has to load them.

        Neither the engine nor a place in it is needed. Raises as `lease`.
        """
        name = version.engine_name
        if name in self._stock.slots.held:
            return
        self._sightings.wanted(version, self._stock.slots)
        self._failures.raise_known(name)
        await self._fetcher.bring(version)

    async def on_engine_lost(self) -> None:
        """The engine died, and with it all that was loaded: begin anew.

        Leases of before are worth nothing any more; their holders find out from the engine.
        """
        lost, self._stock = self._stock, _Stock(Slots(self._stock.slots.capacity))
        held = lost.slots.held
        self._to_pin = [each.version for name, each in lost.loaded.items() if held[name].pinned]
        self._freed.set()
        await self._drop(lost)

    async def on_engine_back(self) -> None:
        """The next engine is there: pin what was pinned before. Everything else comes when it is wanted."""
        while self._to_pin:
            version = self._to_pin.pop()
            try:
                await self.pin(version)
            except HotshoeError as error:
                log.warning("%s is not pinned any more: %s", version, error)

    async def retire(self, version: Version) -> bool:
        """Unload a version if no request uses it; True if it is not loaded any more."""
        name = version.engine_name
        self._stock.slots, unload = self._stock.slots.retire(name)
        if unload:
            self._freed.set()
            self._journal.retired(version)
            await self._unload(self._stock.loaded.pop(name))
        return name not in self._stock.slots.held

    async def pin(self, version: Version) -> None:
        """Load a version and keep it loaded until it is unpinned. Raises as `lease`.

        Raises Refused where no place would be left for what is not pinned.
        """
        async with self.lease(version):
            held = self._stock.slots.held[version.engine_name]
            slots = self._stock.slots
            if not held.pinned and slots.pinned + 1 >= slots.capacity:
                raise Refused(
                    f"{version} cannot be pinned: {slots.pinned} of {slots.capacity} places are, and the "
                    "last must stay free: unpin another, or serve with a higher --resident"
                )
            self._stock.slots = self._stock.slots.pin(version.engine_name, pinned=True)

    def unpin(self, version: Version) -> None:
        """Let a version go when its place is needed; one that is not pinned stays as it is."""
        self._stock.slots = self._stock.slots.pin(version.engine_name, pinned=False)
        self._freed.set()

    async def evict(self, version: Version) -> None:
        """Unload a version now, if it is loaded. Raises Refused while a request uses it or it is pinned."""
        name = version.engine_name
        self._stock.slots, unload = self._stock.slots.retire(name)
        if unload:
            self._freed.set()
            self._journal.evicted(version)
            await self._unload(self._stock.loaded.pop(name))
        elif (held := self._stock.slots.held.get(name)) is not None:
            cause = "is pinned: unpin it" if held.pinned else f"is used by {held.leases} requests: wait"
            raise Refused(f"{version} cannot be unloaded now: it {cause}, then try again")

    def residency(self) -> list[Residency]:
        """Where each version is that was wanted here of late."""
        return self._sightings.residency(self._stock.slots, self._fetcher.under_way())

    def resident(self) -> list[Version]:
        """What is loaded and ready."""
        return [each.version for each in self._stock.loaded.values()]

    def occupancy(self) -> Occupancy:
        """How full it is. The one method that other threads may call too."""
        slots = self._stock.slots
        loading = sum(not each.ready for each in slots.held.values())
        leased = sum(each.leases > 0 for each in slots.held.values())
        return Occupancy(len(slots.held) - loading, loading, leased, slots.capacity, self._engine.facts.slots)

    def leases(self, version: Version) -> int:
        """How many requests use a version, or wait for its load, now."""
        held = self._stock.slots.held.get(version.engine_name)
        return held.leases if held else 0

    async def close(self) -> None:
        """Give up what is under way, and give all folders back. The engine is left as it is."""
        await self._drop(self._stock)
        await self._fetcher.close()

    async def _drop(self, stock: _Stock) -> None:
        tasks = list(stock.loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for loaded in stock.loaded.values():
            await self._fetcher.give_back(loaded.version)

    async def _acquire(self, version: Version) -> _Stock:
        """Get a lease, if need be by beginning to load; the stock that it is in."""
        name = version.engine_name
        self._failures.raise_known(name)
        if name in self._stock.slots.held:
            self._stock.slots, _ = self._stock.slots.on_request(name)
            return self._stock
        async with self._line:
            while True:
                self._failures.raise_known(name)
                self._stock.slots, command = self._stock.slots.on_request(name)
                if isinstance(command, Load):
                    self._begin(version, command)
                if not isinstance(command, Wait):
                    return self._stock
                self._freed.clear()
                await self._freed.wait()

    def _begin(self, version: Version, command: Load) -> None:
        stock = self._stock
        evicted = stock.loaded.pop(command.evict) if command.evict else None
        task = asyncio.create_task(self._load(stock, version, evicted), name=f"load {version}")
        task.add_done_callback(_failed)  # Seen, even if every caller has given up by then.
        stock.loads[version.engine_name] = task

    async def _load(self, stock: _Stock, version: Version, evicted: _Loaded | None) -> None:
        name = version.engine_name
        started = time.monotonic()
        try:
            if evicted is not None:
                self._journal.evicted(evicted.version)
                await self._unload(evicted)
            with self._failures.watching(version):
                adapter = await self._add(version)
        except BaseException:
            stock.slots = stock.slots.on_failed(name)
            raise
        else:
            stock.loaded[name] = _Loaded(version, adapter)
            stock.slots = stock.slots.on_loaded(name)
            self._failures.forget(name)
            self._sightings.loaded(version)
            self._journal.loaded(version, seconds=time.monotonic() - started)
            log.info("loaded %s", version)
        finally:
            del stock.loads[name]
            self._freed.set()

    async def _add(self, version: Version) -> EngineAdapter:
        folder = await self._fetcher.take(version)
        adapter = EngineAdapter(name=version.engine_name, id=next(self._ids), folder=folder)
        try:
            async with self._engine_turn:
                await self._engine.add(adapter)
        except BaseException:
            await self._fetcher.give_back(version)
            raise
        return adapter

    async def _unload(self, loaded: _Loaded) -> None:
        """Take it out of the engine and give its folder back. Failing at it is nobody's fault to hear of."""
        try:
            async with self._engine_turn:
                await self._engine.remove(loaded.adapter)
        except Exception as error:
            log.warning("unloading %s failed: %s", loaded.version, error or type(error).__name__)
        finally:
            await self._fetcher.give_back(loaded.version)


async def _join(load: asyncio.Task[None]) -> None:
    """Wait for a load. A caller that gives up does not take it away from the others."""
    try:
        await asyncio.shield(load)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if load.cancelled() and not (task and task.cancelling()):
            raise EngineUnavailable("the engine died while the adapter was loaded: try again") from None
        raise


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
