"""What one engine holds, loaded and unloaded as `slots` decides."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from hotshoe.adapter.errors import EngineUnavailable, Unservable
from hotshoe.adapter.version import Version
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.serve.failures import Failures
from hotshoe.serve.fetching import Fetcher
from hotshoe.serve.journal import Journal
from hotshoe.serve.residency import Sightings
from hotshoe.serve.slots import Load, Refuse, Slots, Wait

log = logging.getLogger(__name__)

_ids = itertools.count(1)
"""Of the whole process: an engine may outlive the server that it was given to."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """What every stock of a server works with. ids: never given out twice.

    A failed load can leave its id behind in the engine.
    """

    engine: Engine
    fetcher: Fetcher
    failures: Failures
    journal: Journal
    sightings: Sightings
    ids: Iterator[int] = field(default_factory=lambda: _ids)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version in the engine."""

    version: Version
    adapter: EngineAdapter


class Stock:
    """What one engine holds. An engine that dies takes its stock with it; the next one begins anew.

    loaded, loads: what is there, and what is on its way, by engine name. freed: set whenever there may be
    more room than before. All methods belong to one event loop.
    """

    def __init__(self, handlers: Handlers, slots: Slots) -> None:
        self.slots = slots
        self.loaded: dict[str, Loaded] = {}
        self.loads: dict[str, asyncio.Task[None]] = {}
        self.freed = asyncio.Event()
        self._with = handlers
        self._leaving: set[asyncio.Task[None]] = set()
        # The engine's own: taken before one comes in, given back after one has left. So it never holds more
        # than it may, whichever of the loads and unloads under way is done first.
        self._places = asyncio.Semaphore(slots.capacity)

    def request(self, version: Version, size: int) -> bool:
        """Get a lease, if need be by beginning to load; False if there is no room as yet.

        size: its bytes. Raises Unservable where there never will be room.
        """
        self.slots, command = self.slots.on_request(version.engine_name, size)
        match command:
            case Load(evict):
                self._begin(version, [self.loaded.pop(name) for name in evict])
            case Refuse(room):
                raise Unservable(
                    f"{version} takes {_mib(size)} of memory, and this server has {_mib(room)} for adapters "
                    "beside the pinned ones: serve with more --adapter-memory-mib, or unpin some",
                    details={"adapter": str(version.adapter), "version": version.tag},
                )
        return not isinstance(command, Wait)

    def release(self, name: str) -> None:
        """Give back a lease."""
        self.slots = self.slots.on_release(name)
        self.freed.set()

    def retire(self, name: str) -> Loaded | None:
        """Take one that no request uses out of the stock, for `unload`; None if it stays."""
        self.slots, unload = self.slots.retire(name)
        if not unload:
            return None
        self.freed.set()
        return self.loaded.pop(name)

    async def unload(self, loaded: Loaded) -> None:
        """Take it out of the engine and give its folder back. Failing at it is nobody's fault to hear of."""
        try:
            await self._with.engine.remove(loaded.adapter)
        except Exception as error:
            log.warning("unloading %s failed: %s", loaded.version, error or type(error).__name__)
        finally:
            self._places.release()
            await self._with.fetcher.give_back(loaded.version)

    async def drop(self) -> None:
        """Give up what is under way, and give all folders back. The engine is left as it is."""
        tasks = list(self.loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._leaving, return_exceptions=True)
        for loaded in self.loaded.values():
            await self._with.fetcher.give_back(loaded.version)

    def _begin(self, version: Version, evicted: list[Loaded]) -> None:
        for each in evicted:
            self._with.journal.evicted(each.version)
            leaving = asyncio.create_task(self.unload(each), name=f"unload {each.version}")
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        task = asyncio.create_task(self._load(version), name=f"load {version}")
        task.add_done_callback(failed)  # Seen, even if every caller has given up by then.
        self.loads[version.engine_name] = task

    async def _load(self, version: Version) -> None:
        name = version.engine_name
        started = time.monotonic()
        try:
            with self._with.failures.watching(version):
                adapter = await self._add(version)
        except BaseException:
            self.slots = self.slots.on_failed(name)
            raise
        else:
            self.loaded[name] = Loaded(version, adapter)
            self.slots = self.slots.on_loaded(name)
            self._with.failures.forget(name)
            self._with.sightings.loaded(version)
            self._with.journal.loaded(version, seconds=time.monotonic() - started)
            log.info("loaded %s", version)
        finally:
            del self.loads[name]
            self.freed.set()

    async def _add(self, version: Version) -> EngineAdapter:
        taken = await self._with.fetcher.take(version)
        adapter = EngineAdapter(name=version.engine_name, id=next(self._with.ids), folder=taken.folder)
        try:
            await self._places.acquire()
            try:
                await self._with.engine.add(adapter)
            except BaseException:
                self._places.release()
                raise
        except BaseException:
            await self._with.fetcher.give_back(version)
            raise
        return adapter


async def join(load: asyncio.Task[None]) -> None:
    """Wait for a load. A caller that gives up does not take it away from the others."""
    try:
        await asyncio.shield(load)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if load.cancelled() and not (task and task.cancelling()):
            raise EngineUnavailable("the engine died while the adapter was loaded: try again") from None
        raise


def failed(load: asyncio.Task[None]) -> bool:
    """Whether it has; its error counts as seen."""
    return load.done() and (load.cancelled() or load.exception() is not None)


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"
