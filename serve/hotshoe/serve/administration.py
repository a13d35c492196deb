"""The use cases of operators: look at a server, choose what it holds, take it out of service."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as installed_version

from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.serve.admission import Admission
from hotshoe.serve.catalog import Catalog
from hotshoe.serve.engine import Engine
from hotshoe.serve.identity import Identity
from hotshoe.serve.journal import Journal
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.rotation import Rotation
from hotshoe.serve.tally import Tally
from hotshoe.wire.admin import Happening, Residency, ServerStatus, State, StuckAlias, Warming


@dataclass(frozen=True, slots=True)
class Administration:
    """Looks after one server. All methods belong to its event loop."""

    engine: Engine
    pool: AdapterPool
    catalog: Catalog
    admission: Admission
    journal: Journal
    tally: Tally
    rotation: Rotation
    identity: Identity
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def status(self) -> ServerStatus:
        """How the server is."""
        return ServerStatus(
            base=self.engine.facts.base,
            server_version=installed_version("hotshoe"),
            started_at=self.started_at,
            serving=not self.admission.draining and await self.rotation.alive(),
            draining=self.admission.draining,
            running=self.admission.running,
            waiting=self.admission.waiting,
            adapters=self.pool.occupancy(),
            alias_age_seconds=self.catalog.age_seconds(),
            stuck=tuple(
                StuckAlias(str(ref), error.reason, error.message)
                for ref, error in self.catalog.stuck().items()
            ),
            tenants=self.tally.tenants,
            used_adapters=self.tally.adapters,
            tenants_fault=self.identity.fault.message if self.identity.fault else "",
        )

    def residency(self) -> list[Residency]:
        """Where each version is that was wanted here of late."""
        return self.pool.residency()

    async def warm(self, ref: AdapterRef) -> AsyncGenerator[Warming, None]:
        """Load what `ref` means now, telling each state reached. Raises as `AdapterPool.lease`."""
        version = await self.catalog.resolve(ref)
        yield Warming(State.FETCHING, version.tag)
        await self.pool.fetch(version)
        yield Warming(State.LOADING, version.tag)
        await self.pool.warm(version)
        yield Warming(State.LOADED, version.tag)

    async def pin(self, ref: AdapterRef) -> Version:
        """Load what `ref` means now and keep it, whatever moves later. Raises as `AdapterPool.pin`."""
        version = await self.catalog.resolve(ref)
        await self.pool.fetch(version)
        await self.pool.pin(version)
        return version

    async def unpin(self, ref: AdapterRef) -> Version:
        """Let what `ref` means now go when its place is needed."""
        version = await self.catalog.resolve(ref)
        self.pool.unpin(version)
        return version

    async def evict(self, ref: AdapterRef) -> Version:
        """Unload what `ref` means now. Raises Refused while a request uses it or it is pinned."""
        version = await self.catalog.resolve(ref)
        await self.pool.evict(version)
        return version

    def watching(self) -> AbstractContextManager[AsyncIterator[Happening]]:
        """What happens to adapters from now on, until the block ends."""
        return self.journal.following()

    async def drain(self, seconds: float) -> int:
        """Take no more requests; return how many are left when all have ended or `seconds` are over.

        0 seconds wait without limit.
        """
        self.admission.close()
        await self.rotation.update()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                await self.admission.empty()
        return self.admission.running + self.admission.waiting

    async def resume(self) -> None:
        """Take requests again after `drain`. Raises Refused where the server itself is ending."""
        self.admission.reopen()
        await self.rotation.update()
