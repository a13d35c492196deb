"""From a configuration to a server that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import signal
from collections.abc import Awaitable, Callable, Collection

import uvloop

from hotshoe.registry import BaseModel, open_registry
from hotshoe.registry.base import fetch_base
from hotshoe.serve.config import ServeConfig, check_free
from hotshoe.serve.engine import Engine
from hotshoe.serve.identity import TenantsFile
from hotshoe.serve.planning import Plan, make_plan, read_base_config
from hotshoe.serve.prespawn import Prespawned, imports_hastened, prespawned
from hotshoe.serve.server import serve_until_signal
from hotshoe.serve.supervisor import SupervisedEngine
from hotshoe.serve.tls import Certificate
from hotshoe.serve.vllm_config import STEP_TOKENS, VllmConfig

log = logging.getLogger(__name__)


def check(config: ServeConfig, given: Collection[str]) -> Plan:
    """What serving would do, without doing it. given: the fields that were chosen; the others may change.

    Raises what `serve_forever` raises before it loads anything.
    """
    _check_places(config)
    return _plan(config, given)


def serve_forever(
    config: ServeConfig,
    given: Collection[str],
    *,
    on_ready: Callable[[str], None],
    on_progress: Callable[[str], None] = log.info,
) -> None:
    """Load the base, serve until SIGTERM or SIGINT, drain, stop.

    given: the fields that were chosen; the others are fitted to what the registry holds and the machine
    has. on_ready is told the address, on_progress what is going on until then.
    Raises AddressInUse or InvalidConfig before anything is loaded, BaseNotFound, EngineUnavailable.
    """
    _check_places(config)
    with prespawned(config.threads) as early:
        on_progress(f"fetching {config.base}")
        plan = _plan(config, given)
        on_progress(describe(plan))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(plan, early, functools.partial(_settle, on_ready), on_progress))


def _plan(config: ServeConfig, given: Collection[str]) -> Plan:
    base = fetch_base(config.base)
    with open_registry(config.registry) as registry:
        return make_plan(config, given, base, read_base_config(base.folder), registry)


def describe(plan: Plan) -> str:
    """The plan in a line."""
    config = plan.config
    kv = f"{config.kv_cache_bytes >> 20} MiB of KV cache"
    if plan.kv_tokens is not None:
        kv += f" ({plan.kv_tokens} tokens)"
    servable = sum(not each.problem for each in plan.forecasts)
    return (
        f"{plan.base.base}: {config.slots} slots of rank {config.max_rank}, "
        f"{config.adapter_memory_bytes >> 20} MiB for adapters, {kv}, {config.sequences} answers at once; "
        f"{servable} of {len(plan.forecasts)} promoted versions can be served"
    )


def _check_places(config: ServeConfig) -> None:
    """Raise for an address that is taken, or a file that cannot be read, before anything is loaded."""
    check_free(config.listen)
    if config.tls:
        Certificate(config.tls)
    if config.tenants:
        TenantsFile(config.tenants)
    if config.metrics:
        check_free(config.metrics)


async def _serve(
    plan: Plan, early: Prespawned | None, on_ready: Callable[[str], None], on_progress: Callable[[str], None]
) -> None:
    on_progress("starting the engine")
    with imports_hastened():
        from hotshoe.serve.vllm_engine import start_vllm_engine  # Seconds of imports.

    config = plan.config
    start = functools.partial(start_vllm_engine, engine_config(config, plan.base), early)
    with open_registry(config.registry) as registry:
        first = await started(start)
        if first is None:
            return
        engine = SupervisedEngine(first, start)
        on_progress("the engine is up; generating a first token")
        try:
            await serve_until_signal(config, engine, registry, on_ready=on_ready)
        finally:
            await engine.close()


async def started(start: Callable[[], Awaitable[Engine]]) -> Engine | None:
    """The engine, or None if SIGTERM came before it was up: then the start was called off."""
    starting = asyncio.ensure_future(start())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, starting.cancel)
    try:
        return await starting
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        log.info("told to stop before the engine was up")
        return None
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


def _settle(on_ready: Callable[[str], None], address: str) -> None:
    # What was imported and built stays for ever: looked through again and again for garbage, it took a
    # seventh of the event loop's time at 64 streams.
    gc.collect()
    gc.freeze()
    on_ready(address)


def engine_config(config: ServeConfig, base: BaseModel) -> VllmConfig:
    """The engine that serves `config`; whatever a ServeConfig may be, it is one that vLLM can start."""
    return VllmConfig(
        folder=base.folder,
        base=base.base,
        slots=config.slots,
        max_rank=config.max_rank,
        cached_adapters=config.resident,
        context_tokens=config.context_tokens,
        kv_cache_bytes=config.kv_cache_bytes,
        max_sequences=config.sequences,
        step_tokens=max(STEP_TOKENS, config.sequences),  # Each answer takes a token of a step.
        silence_seconds=config.silence_seconds,
        threads=config.threads,
    )
