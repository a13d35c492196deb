"""Starts vLLM's AsyncLLM, in a way that can be called off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

from vllm import AsyncEngineArgs, envs
from vllm.config import CompilationConfig, StructuredOutputsConfig
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from hotshoe.adapter.errors import EngineUnavailable, InvalidConfig
from hotshoe.registry.inspect import SERVED_TARGETS
from hotshoe.serve.following import FollowingServer
from hotshoe.serve.lora_cpu import is_stock
from hotshoe.serve.prespawn import Prespawned, prespawned
from hotshoe.serve.vllm_config import VllmConfig, environment

SHUTDOWN_SECONDS = 1.0

_SCHEDULER = "hotshoe.serve.vllm_scheduler"
SCHEDULERS = {False: f"{_SCHEDULER}.StepwiseScheduler", True: f"{_SCHEDULER}.AheadScheduler"}
"""By whether vLLM plans a step before the last one is done."""


async def start_llm(config: VllmConfig, sockets: Path, early: Prespawned | None) -> AsyncLLM:
    """Load the base; takes seconds to minutes. sockets: a folder in which server and core find each
    other. early: the process to load it in, if it still waits; else one is made that imports meanwhile.

    Raises InvalidConfig where vLLM refuses the base or the settings, EngineUnavailable where its
    process died on the way. Cancelled, it leaves no process behind.
    """
    others = set(multiprocessing.active_children())
    starting = asyncio.ensure_future(asyncio.to_thread(_start, config, sockets, early))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A thread cannot be called off. Without its process vLLM gives up at once.
        while not starting.done():
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            await asyncio.wait([starting], timeout=0.1)
        if starting.exception() is None:
            starting.result().shutdown(timeout=SHUTDOWN_SECONDS)
        raise


def _start(config: VllmConfig, sockets: Path, early: Prespawned | None) -> AsyncLLM:
    if early is not None and early.still_waits():
        return _start_in(early, config, sockets)
    with prespawned(config.threads) as late:
        return _start_in(late, config, sockets)


def _start_in(process: Prespawned | None, config: VllmConfig, sockets: Path) -> AsyncLLM:
    on_cpu = current_platform.is_cpu()
    # Once lora_cpu/install.py has set vLLM's compiler, its default is all of them: from the second engine on.
    custom_ops = ["none"] if on_cpu and not is_stock() else []
    lent = contextlib.nullcontext() if process is None else process.lent()
    variables = environment(config.threads, sockets)
    with variables, _logs_handed_over(), _environment_read_once(), lent:
        try:
            vllm_config = AsyncEngineArgs(
                model=str(config.folder),
                dtype="float32" if on_cpu else "auto",
                compilation_config=CompilationConfig(custom_ops=custom_ops),
                # -1 is the base's own, or as much of it as the KV cache holds.
                max_model_len=config.context_tokens or -1,
                max_num_seqs=config.max_sequences,
                max_num_batched_tokens=config.step_tokens,
                kv_cache_memory_bytes=config.kv_cache_bytes,
                enable_lora=True,
                max_loras=config.slots,
                max_lora_rank=config.slot_rank,
                max_cpu_loras=config.cached_adapters,
                lora_target_modules=sorted(SERVED_TARGETS),
                distributed_executor_backend="uni",
                worker_extension_cls="hotshoe.serve.structures.worker.WorkerExtension",
                structured_outputs_config=StructuredOutputsConfig(backend="xgrammar"),
                use_tqdm_on_load=False,
                shutdown_timeout=0,
            ).create_engine_config()
        except (ValueError, OSError) as error:
            raise _refused(config, error) from error
        if not is_stock():
            planning_ahead = bool(vllm_config.scheduler_config.async_scheduling)
            vllm_config.scheduler_config.scheduler_cls = SCHEDULERS[planning_ahead]
        # Not by a plugin: vLLM loads those after a handshake, for which an orphan waits five minutes.
        vllm_config.additional_config = FollowingServer()
        try:
            return AsyncLLM.from_vllm_config(vllm_config, disable_log_stats=False)
        except (RuntimeError, TimeoutError, EngineDeadError) as error:
            raise EngineUnavailable(
                f"the engine died while it loaded {config.folder}: {error}: see its log for the cause"
            ) from error
        except (ValueError, OSError) as error:
            raise _refused(config, error) from error


def _refused(config: VllmConfig, error: Exception) -> InvalidConfig:
    return InvalidConfig(f"vLLM refuses {config.folder} or its settings: {error}")


@contextlib.contextmanager
def _environment_read_once() -> Iterator[None]:
    """Have vLLM remember what the environment says at the end of the block: it asks for every token."""
    envs.disable_envs_cache()
    yield
    envs.enable_envs_cache()


@contextlib.contextmanager
def _logs_handed_over() -> Iterator[None]:
    """Leave vLLM's log records of this process to the application's logging, not to its own handlers."""
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # That there is no Triton.
    try:
        yield
    finally:
        vllm_logger = logging.getLogger("vllm")
        vllm_logger.handlers.clear()
        vllm_logger.propagate = True
