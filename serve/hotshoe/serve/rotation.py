"""Tells load balancers, through the health service, whether to send anybody here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection

from grpc_health.v1 import health, health_pb2

from hotshoe.adapter.errors import HotshoeError
from hotshoe.serve.admission import Admission
from hotshoe.serve.engine import Engine

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.2


class Rotation:
    """Says SERVING while the engine lives and new requests are let in.

    services: by their full names, all told alike. servicer: answers the probes. All methods belong to one
    event loop.
    """

    def __init__(self, engine: Engine, admission: Admission, services: Collection[str]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._engine = engine
        self._admission = admission
        self._services = ("", *services)
        self._alive = True
        self._said: bool | None = None
        self._saying = asyncio.Lock()

    async def alive(self) -> bool:
        """Whether the engine is."""
        try:
            await self._engine.check()
            alive = True
        except Exception as error:
            alive = False
            if self._alive:
                unforeseen = not isinstance(error, HotshoeError)
                log.error("the engine does not answer any more: %s", error, exc_info=unforeseen)
        self._alive = alive
        return alive

    async def update(self) -> None:
        """Say what is true now, without waiting for the next look."""
        async with self._saying:
            serving = await self.alive() and not self._admission.draining
            if serving is not self._said:
                self._said = serving
                response = health_pb2.HealthCheckResponse
                for service in self._services:
                    await self.servicer.set(service, response.SERVING if serving else response.NOT_SERVING)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Keep it true until the block ends; then say NOT_SERVING for good."""
        await self.update()
        task = asyncio.create_task(self._watch(), name="watch engine")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self.servicer.enter_graceful_shutdown()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.update()
