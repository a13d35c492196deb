"""Puts the parts together, listens, and takes them apart again in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from hotshoe.registry import Registry
from hotshoe.serve.admin_servicer import AdminServicer
from hotshoe.serve.administration import Administration
from hotshoe.serve.admission import Admission
from hotshoe.serve.catalog import Catalog
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.engine import Engine
from hotshoe.serve.fairness import FairQueue
from hotshoe.serve.generation import Generation
from hotshoe.serve.identity import OpenDoor, TenantsFile
from hotshoe.serve.inference_servicer import InferenceServicer
from hotshoe.serve.listing import AdapterListing
from hotshoe.serve.pins import Pins
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.rotation import Rotation
from hotshoe.serve.shelf import Shelf
from hotshoe.serve.supervisor import SupervisedEngine, prove
from hotshoe.serve.telemetry import Telemetry, telemetry
from hotshoe.serve.tls import Certificate
from hotshoe.serve.transport import listen, new_server
from hotshoe.serve.unreadable import Registrar
from hotshoe.v1 import admin_pb2, admin_pb2_grpc, inference_pb2, inference_pb2_grpc

log = logging.getLogger(__name__)

SERVICES = (
    inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name,
    admin_pb2.DESCRIPTOR.services_by_name["Admin"].full_name,
)
LAST_WORDS_SECONDS = 0.5
"""How long answers that were ready when the time was over may take to be sent."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. address: where, with the port that was taken if 0 was asked for."""

    address: str
    pool: AdapterPool
    admission: Admission
    telemetry: Telemetry


@contextlib.asynccontextmanager
async def running(
    config: ServeConfig, engine: Engine, registry: Registry, *, hurry: asyncio.Event | None = None
) -> AsyncIterator[Running]:
    """Serve `engine` until the block ends; then let answers finish, for `drain_seconds` at most.

    hurry: once it is set, answers get no more time to finish. The engine and the registry stay the
    caller's to close. Ready means that a token was generated.
    """
    certificate = Certificate(config.tls) if config.tls else None
    with telemetry(config, engine.facts.base) as seen:
        if certificate is not None:
            seen.watch_certificate(certificate)
        async with _running(config, engine, registry, seen, certificate, hurry or asyncio.Event()) as server:
            yield server


@contextlib.asynccontextmanager
async def _running(
    config: ServeConfig,
    engine: Engine,
    registry: Registry,
    seen: Telemetry,
    certificate: Certificate | None,
    hurry: asyncio.Event,
) -> AsyncIterator[Running]:
    identity = TenantsFile(config.tenants) if config.tenants else OpenDoor()
    shelf = Shelf(registry, engine.facts, same_template=config.same_template)
    pool = AdapterPool(
        engine,
        shelf,
        capacity=config.resident,
        capacity_bytes=config.adapter_memory_bytes,
        journal=seen.journal,
    )
    catalog = Catalog(registry, pool, journal=seen.journal)
    admission = Admission(_line(config))
    seen.watch(pool, catalog, admission)
    seen.watch_tenants(identity)
    generation = Generation(engine, catalog, pool, admission, observers=seen.observers)
    server = new_server(config)
    services: Any = Registrar(server)  # Generated code asks for no more of a server.
    inference_pb2_grpc.add_InferenceServicer_to_server(
        InferenceServicer(generation, AdapterListing(registry, pool), identity, seen.refusals), services
    )
    rotation = Rotation(engine, admission, SERVICES)
    health_pb2_grpc.add_HealthServicer_to_server(rotation.servicer, services)
    administration = Administration(
        engine, pool, catalog, admission, seen.journal, seen.tally, rotation, identity
    )
    admin_pb2_grpc.add_AdminServicer_to_server(
        AdminServicer(administration, identity, seen.refusals), services
    )
    _reflect(services)
    address = listen(server, config.listen, certificate)
    await prove(engine)
    pins = Pins(config.pinned_refs, catalog, pool)
    async with catalog.watching(), identity.watching(), _looked_after(engine, pool), pins.kept():
        await server.start()
        log.info("serving %s on %s", engine.facts.base, address)
        try:
            async with rotation.watching():
                yield Running(address, pool, admission, seen)
        finally:
            await _drain(admission, config.drain_seconds, hurry)
            await server.stop(LAST_WORDS_SECONDS)
            await pool.close()


async def serve_until_signal(
    config: ServeConfig, engine: Engine, registry: Registry, *, on_ready: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second one cuts that short. on_ready: told the address."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, lambda: (hurry if stop.is_set() else stop).set())
    try:
        async with running(config, engine, registry, hurry=hurry) as server:
            on_ready(server.address)
            await stop.wait()
            log.info("draining: answers under way have %.0f s to finish", config.drain_seconds)
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)


def _line(config: ServeConfig) -> FairQueue:
    # A few more than fit in a step: they stand ready in the engine when a place becomes free.
    places = config.sequences + max(1, config.sequences // 8)
    # What one tenant may not fill up is for the others, a place in the step itself among it: the next one to
    # come waits for nobody's answer to end. Who asks nobody knows of no others.
    reserve = max(places // 8, places - config.sequences + 1) if config.tenants else 0
    return FairQueue(places, config.slots, reserve=reserve)


def _reflect(services: Any) -> None:
    names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, services)  # type: ignore[no-untyped-call]


async def _drain(admission: Admission, seconds: float, hurry: asyncio.Event) -> None:
    """Refuse what comes, with an error that sends callers elsewhere, until what is here has ended."""
    admission.close(for_good=True)
    reasons = [asyncio.ensure_future(each) for each in (admission.empty(), hurry.wait())]
    try:
        await asyncio.wait(reasons, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in reasons:
            each.cancel()


@contextlib.asynccontextmanager
async def _looked_after(engine: Engine, pool: AdapterPool) -> AsyncIterator[None]:
    """Where the engine is one that can be replaced, do so when it dies."""
    if not isinstance(engine, SupervisedEngine):
        yield
        return
    engine.on_lost(pool.on_engine_lost)
    engine.on_back(pool.on_engine_back)
    async with engine.supervised():
        yield
