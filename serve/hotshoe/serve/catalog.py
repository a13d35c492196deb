"""Which version answers a reference: from memory, kept true by watching the registry.

A moved alias takes effect only after its new version is loaded beside the old one. If that fails, the
old one goes on answering.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import TypeVar

from hotshoe.adapter.errors import HotshoeError, NotFound
from hotshoe.adapter.reference import DEFAULT_ALIAS, AdapterName, AdapterRef, Alias
from hotshoe.adapter.version import Version
from hotshoe.registry import Registry
from hotshoe.serve.pool import AdapterPool

Key = TypeVar("Key")

log = logging.getLogger(__name__)

REMEMBERED = 65_536


class Catalog:
    """Resolves references for one server.

    poll_seconds: how often the registry is asked what moved. All methods belong to one event loop;
    the registry is only ever called in threads.
    """

    def __init__(self, registry: Registry, pool: AdapterPool, *, poll_seconds: float = 0.25) -> None:
        self._registry = registry
        self._pool = pool
        self._poll_seconds = poll_seconds
        self._aliases: OrderedDict[tuple[AdapterName, str], Version] = OrderedDict()
        self._fixed: OrderedDict[AdapterRef, Version] = OrderedDict()
        self._draining: set[Version] = set()

    async def resolve(self, ref: AdapterRef) -> Version:
        """The version that answers `ref` now; the alias `prod` where it has no selector.

        Raises AdapterNotFound, VersionNotFound, AliasNotFound or RegistryUnavailable.
        """
        selector = ref.selector or Alias(DEFAULT_ALIAS)
        if isinstance(selector, Alias):
            return await self._recall(self._aliases, (ref.adapter, selector.name), ref)
        return await self._recall(self._fixed, ref, ref)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the registry until the block ends."""
        _, cursor = await asyncio.to_thread(self._registry.changes, None)
        task = asyncio.create_task(self._watch(cursor), name="watch registry")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _recall(self, memory: OrderedDict[Key, Version], key: Key, ref: AdapterRef) -> Version:
        if (version := memory.get(key)) is None:
            version = memory[key] = await asyncio.to_thread(self._registry.resolve, ref)
        memory.move_to_end(key)
        if len(memory) > REMEMBERED:
            memory.popitem(last=False)
        return version

    async def _watch(self, cursor: str) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                changes, cursor = await asyncio.to_thread(self._registry.changes, cursor)
                moved = {(change.adapter, change.alias) for change in changes if change.alias}
                await asyncio.gather(*(self._follow(key) for key in moved if key in self._aliases))
                await self._retire_drained()
            except HotshoeError as error:
                log.warning("the registry cannot be watched now, aliases stay as they are: %s", error)

    async def _follow(self, key: tuple[AdapterName, str]) -> None:
        adapter, alias = key
        old = self._aliases[key]
        try:
            new = await asyncio.to_thread(self._registry.resolve, AdapterRef(adapter, Alias(alias)))
        except NotFound:
            self._aliases.pop(key, None)  # Unset: whoever asks next is told so.
            self._draining.add(old)
            return
        if new == old:
            return
        try:
            await self._pool.warm(new)
        except HotshoeError as error:
            log.warning("%s@%s stays on %s: %s cannot be loaded: %s", adapter, alias, old.tag, new.tag, error)
            return
        self._aliases[key] = new
        self._draining.add(old)
        self._draining.discard(new)
        log.info("%s@%s now answers with %s, was %s", adapter, alias, new.tag, old.tag)

    async def _retire_drained(self) -> None:
        wanted = set(self._aliases.values())
        for version in [*self._draining]:
            if version in wanted or await self._pool.retire(version):
                self._draining.discard(version)
