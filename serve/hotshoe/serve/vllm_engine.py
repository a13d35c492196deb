"""The `Engine` on vLLM's AsyncLLM: the one door to vLLM. Import it only where a model is served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import multiprocessing
import os
import warnings
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import jinja2

from hotshoe.adapter.errors import (
    AdapterLoadFailed,
    EngineUnavailable,
    HotshoeError,
    InvalidConfig,
    InvalidRequest,
    PromptTooLong,
)
from hotshoe.serve import lora_cpu
from hotshoe.serve.engine import EngineAdapter, EngineChunk, EngineFacts
from hotshoe.serve.pacing import Pace, paced
from hotshoe.serve.vllm_config import PLUGIN, VllmConfig, environment
from hotshoe.wire.values import Chat, Sampling

with warnings.catch_warnings():
    # On import vLLM touches a name that torch has deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from vllm import AsyncEngineArgs
    from vllm.config import StructuredOutputsConfig
    from vllm.exceptions import VLLMClientError
    from vllm.lora.request import LoRARequest
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    from hotshoe.serve.vllm_params import chunks_of, params_of

_SHUTDOWN_SECONDS = 1.0


async def start_vllm_engine(config: VllmConfig) -> VllmEngine:
    """Load the base and return the engine, ready; takes seconds to minutes.

    Raises InvalidConfig where vLLM refuses the base or the settings, EngineUnavailable where its
    process died on the way. Cancelled, it leaves no process behind.
    """
    engine = VllmEngine(config, await _started(config))
    try:
        await engine._settle()
    except BaseException:
        await engine.close()
        raise
    return engine


class VllmEngine:
    """The `Engine` protocol; see there for what each method promises."""

    def __init__(self, config: VllmConfig, llm: AsyncLLM) -> None:
        self._llm = llm
        self._tokenizer: Any = llm.get_tokenizer()
        self._defaults: dict[str, Any] = llm.model_config.get_diff_sampling_param()
        self._requests: dict[int, LoRARequest] = {}
        self._used_ids: set[int] = set()
        self._closed = False
        self._pace = Pace()
        self._facts = EngineFacts(
            base=config.base,
            context_tokens=llm.model_config.max_model_len,
            vocabulary=llm.model_config.get_vocab_size(),
            slots=config.slots,
            max_rank=config.max_rank,
            base_config=json.loads((config.folder / "config.json").read_bytes()),
        )

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text))

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        turns = [{"role": message.role, "content": message.content} for message in chat.messages]
        try:
            ids = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            raise InvalidRequest(
                f"the base's chat template refuses this chat: {error}: send other turns or a plain prompt"
            ) from error
        return tuple(ids)

    async def add(self, adapter: EngineAdapter) -> None:
        if self._requests.get(adapter.id) is not None:
            return
        self._ensure_open()
        if adapter.id in self._used_ids:
            raise AdapterLoadFailed(
                f"engine id {adapter.id} was used before: give {adapter.name} a fresh one"
            )
        self._used_ids.add(adapter.id)
        request = LoRARequest(adapter.name, adapter.id, str(adapter.folder))
        try:
            await self._prepare(request)
            added = await self._llm.add_lora(request)
        except EngineDeadError as error:
            raise _dead() from error
        except Exception as error:
            await self._forget(adapter.id)
            self._ensure_open()
            raise AdapterLoadFailed(
                f"the engine refuses {adapter.name}: {_cause(error)}", details={"adapter": adapter.name}
            ) from error
        except BaseException:
            await self._forget(adapter.id)
            raise
        if not added:
            raise AdapterLoadFailed(f"the engine did not take {adapter.name}: id {adapter.id} is in use")
        self._requests[adapter.id] = request

    async def remove(self, adapter: EngineAdapter) -> None:
        self._ensure_open()
        if self._requests.pop(adapter.id, None) is None:
            return
        try:
            await self._llm.remove_lora(adapter.id)
        except EngineDeadError as error:
            raise _dead() from error

    async def generate(
        self,
        request_id: str,
        prompt: tuple[int, ...],
        sampling: Sampling,
        adapter: EngineAdapter | None,
    ) -> AsyncGenerator[EngineChunk, None]:
        self._ensure_open()
        lora = None
        if adapter is not None:
            # vLLM would load it inside a step, and a failure there kills the engine for everyone.
            lora = self._requests.get(adapter.id)
            if lora is None:
                raise AdapterLoadFailed(f"{adapter.name} is not in the engine: add it before generating")
        with _translated():
            tokens = {"prompt_token_ids": list(prompt)}
            params = params_of(sampling, self._defaults)
            stream = paced(self._llm, self._pace, tokens, params, request_id, lora)
            # Without aclose() a reader that stops early leaves the request running in the engine.
            async with contextlib.aclosing(stream):
                async for output in stream:
                    for chunk in chunks_of(output, sampling):
                        yield chunk

    async def check(self) -> None:
        self._ensure_open()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._llm.output_handler is not None:  # It would log the core's end as an error.
                self._llm.output_handler.cancel()
            await asyncio.to_thread(self._llm.shutdown, timeout=_SHUTDOWN_SECONDS)
            # vLLM closes its sockets, on this loop, and forgets the context that they came from.
            self._llm.engine_core.resources.ctx.destroy(linger=0)
            # vLLM shuts down once more when it is collected; at the interpreter's end that fails noisily.
            self._llm.shutdown = _do_nothing

    def _ensure_open(self) -> None:
        if self._closed:
            raise EngineUnavailable("the engine is closed: start a new one")
        if self._llm.errored:
            raise _dead()

    async def _settle(self) -> None:
        """Tell the core process what it can be told only once it is up; see that it is the right one."""
        with _translated():
            await self._llm.collective_rpc("hotshoe_follow_server")
            (operators,) = await self._llm.collective_rpc("hotshoe_operators")
        stock = not current_platform.is_cpu() or os.environ.get(lora_cpu.SWITCH) == lora_cpu.STOCK
        if not stock and operators != [lora_cpu.OPERATORS]:
            # vLLM logs that a plugin failed and goes on without it.
            raise EngineUnavailable(
                f"vLLM runs {', '.join(operators)}, which mixes tenants' adapters, in the place of "
                f"{lora_cpu.OPERATORS}: its plugin {PLUGIN} did not load; reinstall hotshoe"
            )

    async def _prepare(self, request: LoRARequest) -> None:
        """Load an adapter little by little, each piece between two steps: no stream waits long for it."""
        arguments = (request.lora_name, request.lora_int_id, request.lora_path)
        while not all(await self._llm.collective_rpc("hotshoe_prepare", args=arguments)):
            pass

    async def _forget(self, adapter_id: int) -> None:
        """Take out what a failed load left: vLLM keeps the id, and would serve partial weights under it."""
        with contextlib.suppress(Exception):
            await asyncio.shield(self._llm.remove_lora(adapter_id))


async def _started(config: VllmConfig) -> AsyncLLM:
    others = set(multiprocessing.active_children())
    starting = asyncio.ensure_future(asyncio.to_thread(_start, config))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # A thread cannot be called off. Without its process vLLM gives up at once.
        while not starting.done():
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            await asyncio.wait([starting], timeout=0.1)
        if starting.exception() is None:
            starting.result().shutdown(timeout=_SHUTDOWN_SECONDS)
        raise


def _start(config: VllmConfig) -> AsyncLLM:
    on_cpu = current_platform.is_cpu()
    with environment(config), _logs_handed_over():
        try:
            vllm_config = AsyncEngineArgs(
                model=str(config.folder),
                dtype="float32" if on_cpu else "auto",
                # -1 is the base's own, or as much of it as the KV cache holds.
                max_model_len=config.context_tokens or -1,
                max_num_seqs=config.max_sequences,
                max_num_batched_tokens=config.step_tokens,
                kv_cache_memory_bytes=config.kv_cache_bytes,
                enable_lora=True,
                max_loras=config.slots,
                max_lora_rank=config.slot_rank,
                max_cpu_loras=config.cached_adapters,
                lora_target_modules=list(config.targets),
                distributed_executor_backend="uni",
                worker_extension_cls="hotshoe.serve.lora_cpu.worker.WorkerExtension",
                # A model that may write blanks for ever will: JSON comes without any.
                structured_outputs_config=StructuredOutputsConfig(
                    backend="xgrammar", disable_any_whitespace=True
                ),
                use_tqdm_on_load=False,
                shutdown_timeout=0,
            ).create_engine_config()
        except (ValueError, OSError) as error:
            raise InvalidConfig(f"vLLM refuses {config.folder} or its settings: {error}") from error
        try:
            return AsyncLLM.from_vllm_config(vllm_config, disable_log_stats=False)
        except (RuntimeError, EngineDeadError) as error:
            raise EngineUnavailable(
                f"the engine died while it loaded {config.folder}: {error}: see its log for the cause"
            ) from error


def _do_nothing() -> None:
    pass


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


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise the errors of our tree for vLLM's."""
    try:
        yield
    except EngineDeadError as error:
        raise _dead() from error
    except EngineGenerateError as error:
        raise EngineUnavailable(f"the engine failed on this request: {_cause(error)}") from error
    except (VLLMClientError, ValueError) as error:
        raise _refused(error) from error


def _refused(error: Exception) -> HotshoeError:
    text = str(error)
    if "maximum context length" in text or "longer than the maximum model length" in text:
        return PromptTooLong(f"{text}: shorten the prompt or ask for fewer tokens")
    return InvalidRequest(f"the engine refuses this request: {text}")


def _dead() -> EngineUnavailable:
    return EngineUnavailable("the engine died: it is restarted or the server is; try again later")


def _cause(error: BaseException) -> str:
    """The innermost message: vLLM wraps the telling one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
