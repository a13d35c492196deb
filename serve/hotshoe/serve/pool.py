"""Leases on loaded adapters: one load per version, nothing unloaded while a request uses it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from types import TracebackType

from hotshoe.adapter.errors import AdapterLoadFailed, EngineUnavailable, HotshoeError, Refused
from hotshoe.adapter.version import Version
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.serve.failures import Failures
from hotshoe.serve.fetching import Fetcher, Source
from hotshoe.serve.journal import Journal
from hotshoe.serve.residency import Sightings
from hotshoe.serve.slots import Slots
from hotshoe.serve.stock import Handlers, Stock, failed, join
from hotshoe.wire.admin import Occupancy, Residency

log = logging.getLogger(__name__)


UNLIMITED = 1 << 62

WEIGHED = 4096
"""Versions whose size is remembered."""


class AdapterPool:
    """Keeps versions loaded in `engine`, the longest unused leaving first.

    capacity: how many at most. capacity_bytes: what they may take of its memory together. All methods
    belong to one event loop.
    """

    def __init__(
        self,
        engine: Engine,
        source: Source,
        *,
        capacity: int,
        capacity_bytes: int = UNLIMITED,
        failures: Failures | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._facts = engine.facts
        self._failures = failures or Failures()
        self._fetcher = Fetcher(source, self._failures)
        self._journal = journal or Journal()
        self._sightings = Sightings()
        self._failures.listeners += [self._journal.load_failed, self._sightings.failed]
        self._handlers = Handlers(engine, self._fetcher, self._failures, self._journal, self._sightings)
        self._stock = Stock(self._handlers, Slots(capacity, capacity_bytes))
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._to_pin: list[Version] = []
        # Who waits longest for a place gets the next one; who needs none does not stand in this line.
        self._line = asyncio.Lock()

    def lease(self, version: Version) -> Lease:
        """For `async with`: the adapter is loaded when the block begins, and stays so until it ends.

        Raises AdapterLoadFailed, BaseMismatch, Tampered or Unservable if it can't be loaded, for a while
        without another try; RegistryUnavailable or EngineUnavailable if it may be tried again at once.
        An AdapterLoadFailed of the block itself leaves it as EngineUnavailable if the engine died meanwhile.
        """
        return Lease(self, version)

    async def take(self, version: Version) -> tuple[Stock, asyncio.Task[None] | None]:
        """Take a lease; the stock that it is in, and the load to wait for where there is one."""
        self._sightings.wanted(version, self._stock.slots)
        stock = await self._acquire(version)
        return stock, stock.loads.get(version.engine_name)

    def adapter(self, version: Version, stock: Stock) -> EngineAdapter:
        """What was leased and has loaded. Raises EngineUnavailable where its engine died meanwhile."""
        if stock is not self._stock:
            raise EngineUnavailable("the engine died while the adapter was loaded: try again")
        return stock.loaded[version.engine_name].adapter

    def give_back(
        self,
        version: Version,
        stock: Stock,
        load: asyncio.Task[None] | None,
        error: BaseException | None,
    ) -> None:
        """Give back a lease that ends with `error`; raise what that means where the engine died."""
        if load is None or not failed(load):  # A failed load took its leases with it.
            stock.release(version.engine_name)
            self._sightings.wanted(version, self._stock.slots)
        if isinstance(error, AdapterLoadFailed) and stock is not self._stock:
            # The next engine does not know it, which says nothing about the adapter.
            raise EngineUnavailable("the engine died before it answered: try again") from error

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
        await self._weigh(version)

    async def on_engine_lost(self) -> None:
        """The engine died, and with it all that was loaded: begin anew.

        Leases of before are worth nothing any more; their holders find out from the engine.
        """
        lost = self._stock
        slots = Slots(lost.slots.capacity, lost.slots.capacity_bytes)
        self._stock = Stock(self._handlers, slots)
        held = lost.slots.held
        self._to_pin = [each.version for name, each in lost.loaded.items() if held[name].pinned]
        lost.freed.set()
        await lost.drop()

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
        stock = self._stock
        if (loaded := stock.retire(name)) is not None:
            self._journal.retired(version)
            await stock.unload(loaded)
        return name not in self._stock.slots.held

    async def pin(self, version: Version) -> None:
        """Load a version and keep it loaded until it is unpinned. Raises as `lease`.

        Raises Refused where no place would be left for what is not pinned.
        """
        async with self.lease(version):
            slots = self._stock.slots
            if not slots.may_pin(version.engine_name):
                raise Refused(
                    f"{version} cannot be pinned: {slots.pinned} of {slots.capacity} places are, and one, "
                    "with room for another of its size, must stay free: unpin another, or serve with a "
                    "higher --resident or --adapter-memory-mib"
                )
            self._stock.slots = slots.pin(version.engine_name, pinned=True)

    def pinned(self, version: Version) -> bool:
        """Whether a version is loaded and stays so."""
        held = self._stock.slots.held.get(version.engine_name)
        return held is not None and held.pinned

    def unpin(self, version: Version) -> None:
        """Let a version go when its place is needed; one that is not pinned stays as it is."""
        self._stock.slots = self._stock.slots.pin(version.engine_name, pinned=False)
        self._stock.freed.set()

    async def evict(self, version: Version) -> None:
        """Unload a version now, if it is loaded. Raises Refused while a request uses it or it is pinned."""
        name = version.engine_name
        stock = self._stock
        if (loaded := stock.retire(name)) is not None:
            self._journal.evicted(version)
            await stock.unload(loaded)
        elif (held := stock.slots.held.get(name)) is not None:
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
        return Occupancy(
            loaded=len(slots.held) - loading,
            loading=loading,
            leased=leased,
            capacity=slots.capacity,
            slots=self._facts.slots,
            bytes=slots.size,
            capacity_bytes=slots.capacity_bytes,
        )

    def leases(self, version: Version) -> int:
        """How many requests use a version, or wait for its load, now."""
        held = self._stock.slots.held.get(version.engine_name)
        return held.leases if held else 0

    async def close(self) -> None:
        """Give up what is under way, and give all folders back. The engine is left as it is."""
        await self._stock.drop()
        await self._fetcher.close()

    async def _acquire(self, version: Version) -> Stock:
        """Get a lease, if need be by beginning to load; the stock that it is in."""
        name = version.engine_name
        self._failures.raise_known(name)
        size = 0
        if name not in self._stock.slots.held:
            size = self._sizes.get(name) or await self._weigh(version)
        if name in self._stock.slots.held:
            self._stock.request(version, size)
            return self._stock
        async with self._line:
            while True:
                self._failures.raise_known(name)
                stock = self._stock
                if stock.request(version, size):
                    return stock
                stock.freed.clear()
                await stock.freed.wait()

    async def _weigh(self, version: Version) -> int:
        """Have a version's files on this machine; the bytes that it will take of the engine's memory."""
        name = version.engine_name
        self._failures.raise_known(name)
        size = self._sizes[name] = await self._fetcher.bring(version)
        if len(self._sizes) > WEIGHED:
            self._sizes.popitem(last=False)
        return size


class Lease:
    """A request's hold on a loaded adapter, to be entered once; see `AdapterPool.lease`.

    load_ms: how long it waited for that; 0 if it was loaded.
    """

    adapter: EngineAdapter
    load_ms = 0.0

    def __init__(self, pool: AdapterPool, version: Version) -> None:
        self._pool = pool
        self._version = version

    async def __aenter__(self) -> Lease:
        started = time.monotonic()
        self._stock, self._load = await self._pool.take(self._version)
        try:
            if self._load is not None:
                await join(self._load)
                self.load_ms = (time.monotonic() - started) * 1000
            self.adapter = self._pool.adapter(self._version, self._stock)
        except BaseException as error:
            self._pool.give_back(self._version, self._stock, self._load, error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.give_back(self._version, self._stock, self._load, error)
