"""From a configuration to a server that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
from collections.abc import Callable

import uvloop

from hotshoe.registry import BaseModel, open_registry
from hotshoe.registry.base import fetch_base
from hotshoe.serve.config import ServeConfig, check_free
from hotshoe.serve.identity import TenantsFile
from hotshoe.serve.server import serve_until_signal
from hotshoe.serve.supervisor import SupervisedEngine
from hotshoe.serve.tls import Certificate
from hotshoe.serve.vllm_config import VllmConfig

log = logging.getLogger(__name__)


def serve_forever(config: ServeConfig, *, on_ready: Callable[[str], None]) -> None:
    """Load the base, serve until SIGTERM or SIGINT, drain, stop. on_ready is told the address.

    Raises AddressInUse or InvalidConfig before anything is loaded, BaseNotFound, EngineUnavailable.
    """
    check_free(config.listen)
    if config.tls:
        Certificate(config.tls)
    if config.tenants:
        TenantsFile(config.tenants)
    if config.metrics:
        check_free(config.metrics)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, functools.partial(_settle, on_ready)))


async def _serve(config: ServeConfig, on_ready: Callable[[str], None]) -> None:
    from hotshoe.serve.vllm_engine import start_vllm_engine  # Seconds of imports.

    base = await asyncio.to_thread(fetch_base, config.base)
    start = functools.partial(start_vllm_engine, _engine_config(config, base))
    with open_registry(config.registry) as registry:
        engine = SupervisedEngine(await start(), start)
        try:
            await serve_until_signal(config, engine, registry, on_ready=on_ready)
        finally:
            await engine.close()


def _settle(on_ready: Callable[[str], None], address: str) -> None:
    # What was imported and built stays for ever: looked through again and again for garbage, it took a
    # seventh of the event loop's time at 64 streams.
    gc.collect()
    gc.freeze()
    on_ready(address)


def _engine_config(config: ServeConfig, base: BaseModel) -> VllmConfig:
    return VllmConfig(
        folder=base.folder,
        base=base.base,
        slots=config.slots,
        max_rank=config.max_rank,
        cached_adapters=config.resident,
        context_tokens=config.context_tokens,
        kv_cache_bytes=config.kv_cache_bytes,
        max_sequences=config.sequences,
        threads=config.threads,
    )
