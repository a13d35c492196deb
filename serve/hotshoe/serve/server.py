"""Puts the parts together, listens, and takes them apart again in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from hotshoe.adapter.errors import AddressInUse, HotshoeError
from hotshoe.registry import Registry
from hotshoe.serve.catalog import Catalog
from hotshoe.serve.config import ServeConfig, parse_address
from hotshoe.serve.engine import Engine
from hotshoe.serve.generation import Generation
from hotshoe.serve.inference_servicer import InferenceServicer
from hotshoe.serve.listing import AdapterListing
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.shelf import Shelf
from hotshoe.serve.telemetry import Telemetry, telemetry
from hotshoe.v1 import inference_pb2, inference_pb2_grpc
from hotshoe.wire.values import FinishReason, GenerateRequest, Sampling, Tokens

log = logging.getLogger(__name__)

INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["Inference"].full_name
CHECK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. address: where, with the port that was taken if 0 was asked for."""

    address: str
    pool: AdapterPool
    telemetry: Telemetry


@contextlib.asynccontextmanager
async def running(config: ServeConfig, engine: Engine, registry: Registry) -> AsyncIterator[Running]:
    """Serve `engine` until the block ends; then let answers finish, for `drain_seconds` at most.

    The engine and the registry stay the caller's to close. Ready means that a token was generated.
    """
    with telemetry(config, engine.facts.base) as seen:
        async with _running(config, engine, registry, seen) as server:
            yield server


@contextlib.asynccontextmanager
async def _running(
    config: ServeConfig, engine: Engine, registry: Registry, seen: Telemetry
) -> AsyncIterator[Running]:
    shelf = Shelf(registry, engine.facts)
    pool = AdapterPool(engine, shelf, capacity=config.resident, journal=seen.journal)
    catalog = Catalog(registry, pool, journal=seen.journal)
    seen.watch(pool, catalog)
    generation = Generation(engine, catalog, pool, observers=seen.observers)
    server = grpc.aio.server(options=_options(config))
    inference_pb2_grpc.add_InferenceServicer_to_server(
        InferenceServicer(generation, AdapterListing(registry, pool)), server
    )
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((INFERENCE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = _listen(server, config.listen)
    await _prove(Generation(engine, catalog, pool))  # Seen by nobody: it is no caller's request.
    async with catalog.watching():
        await server.start()
        await _tell(healthy, serving=True)
        watch = asyncio.create_task(_watch(engine, healthy), name="watch engine")
        log.info("serving %s on %s", engine.facts.base, address)
        try:
            yield Running(address, pool, seen)
        finally:
            watch.cancel()
            await healthy.enter_graceful_shutdown()
            await server.stop(config.drain_seconds)
            await pool.close()


async def serve_until_signal(
    config: ServeConfig, engine: Engine, registry: Registry, *, on_ready: Callable[[str], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then drain. on_ready is told the address."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    try:
        async with running(config, engine, registry) as server:
            on_ready(server.address)
            await stop.wait()
            log.info("draining: answers under way have %.0f s to finish", config.drain_seconds)
    finally:
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)


def _options(config: ServeConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # Otherwise two servers share a port and each gets half of the calls.
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
    ]


def _listen(server: grpc.aio.Server, address: str) -> str:
    host, _ = parse_address(address)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise AddressInUse(
            f"{address} cannot be listened on: choose another port, or 0 for a free one"
        ) from error
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _prove(generation: Generation) -> None:
    request = GenerateRequest(Tokens((0,)), sampling=Sampling(max_tokens=1, temperature=0))
    completion = await generation.complete(request, request_id="proof-of-life")
    if completion.finish_reason is FinishReason.ABORTED:
        raise HotshoeError("the engine started but does not answer")


async def _watch(engine: Engine, healthy: health.aio.HealthServicer) -> None:
    """Keep the health service true to the engine."""
    alive = True
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        try:
            await engine.check()
            now = True
        except HotshoeError as error:
            now = False
            if alive:
                log.error("the engine does not answer any more: %s", error)
        if now is not alive:
            await _tell(healthy, serving=now)
        alive = now


async def _tell(healthy: health.aio.HealthServicer, *, serving: bool) -> None:
    state = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", INFERENCE):
        await healthy.set(service, state)
