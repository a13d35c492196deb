"""The `Engine` on vLLM's AsyncLLM: the one door to vLLM. Import it only where a model is served."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tempfile
import warnings
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import (
    AdapterLoadFailed,
    EngineUnavailable,
    HotshoeError,
    InvalidRequest,
    PromptTooLong,
)
from hotshoe.serve import lora_cpu
from hotshoe.serve.encoding import Encoder
from hotshoe.serve.engine import EngineAdapter, EngineChunk, EngineFacts
from hotshoe.serve.gathering import Gathering
from hotshoe.serve.prespawn import Prespawned
from hotshoe.serve.structures.wanted import Wanted
from hotshoe.serve.vllm_config import PLUGIN, VllmConfig
from hotshoe.wire.values import Chat, Sampling

with warnings.catch_warnings():
    # On import vLLM touches a name that torch has deprecated.
    warnings.simplefilter("ignore", FutureWarning)
    from vllm.exceptions import VLLMClientError
    from vllm.inputs.engine import tokens_input
    from vllm.lora.request import LoRARequest
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    from hotshoe.serve.structures.judging import Judge, wanted
    from hotshoe.serve.vllm_core import Core
    from hotshoe.serve.vllm_loads import Loads
    from hotshoe.serve.vllm_params import chunks_of, params_of
    from hotshoe.serve.vllm_start import SHUTDOWN_SECONDS, start_llm


async def start_vllm_engine(config: VllmConfig, early: Prespawned | None = None) -> VllmEngine:
    """Load the base and return the engine, ready; takes seconds to minutes.

    early: the process to load it in, if it still waits; else one is made.
    Raises InvalidConfig where vLLM refuses the base or the settings, EngineUnavailable where its
    process died on the way. Cancelled, it leaves no process behind.
    """
    # A folder of our own, so that no other user of the machine can talk to the core. Once both sides have
    # heard of each other it is not needed any more, and vLLM would leave its sockets lying there.
    with tempfile.TemporaryDirectory(prefix="hotshoe-") as sockets:
        engine = VllmEngine(config, await start_llm(config, Path(sockets), early))
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
        self._core = Core(llm, config.silence_seconds)
        tokenizer: Any = llm.get_tokenizer()
        self._encoder = Encoder(tokenizer)
        self._defaults: dict[str, Any] = llm.model_config.get_diff_sampling_param()
        self._requests: dict[int, LoRARequest] = {}
        self._used_ids: set[int] = set()
        self._closed = False
        self._gathering = Gathering()
        self._streams = 0
        self._loads = Loads(self._core, idle=lambda: not self._streams)
        self._judge = Judge(self._ask_for_verdict)
        self._facts = EngineFacts(
            base=config.base,
            context_tokens=llm.model_config.max_model_len,
            vocabulary=llm.model_config.get_vocab_size(),
            slots=config.slots,
            max_rank=config.max_rank,
            base_config=json.loads((config.folder / "config.json").read_bytes()),
            number_bytes=llm.model_config.dtype.itemsize,
            longest_token=self._encoder.longest_token,
            template_sha256=_sha256(getattr(tokenizer, "chat_template", None)),
        )

    @property
    def facts(self) -> EngineFacts:
        return self._facts

    def encode_text(self, text: str) -> tuple[int, ...]:
        return self._encoder.text(text)

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        return self._encoder.chat(chat)

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
            added = await self._loads.load(request)
        except EngineDeadError as error:
            raise _dead() from error
        except HotshoeError:
            await self._forget(adapter.id)
            self._ensure_open()
            raise
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
            await self._core.answer(self._llm.remove_lora(adapter.id))
        except EngineDeadError as error:
            raise _dead() from error

    async def generate(
        self,
        request_id: str,
        prompt: tuple[int, ...],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        *,
        tenant: str = "",
    ) -> AsyncGenerator[EngineChunk, None]:
        self._ensure_open()
        with _translated():
            tokens = tokens_input(list(prompt))
            structure = None if sampling.structure is None else wanted(sampling.structure, tenant)
            if structure is not None:
                await self._judge.judge(structure)
            params = params_of(sampling, self._defaults, structure)
        await self._gathering.join(self._streams)
        self._ensure_open()
        lora = None
        if adapter is not None:
            # vLLM would load it inside a step, and a failure there kills the engine for everyone.
            lora = self._requests.get(adapter.id)
            if lora is None:
                raise AdapterLoadFailed(f"{adapter.name} is not in the engine: add it before generating")
        stream = self._llm.generate(tokens, params, request_id, lora_request=lora)
        self._streams += 1
        try:
            # Without aclose() a reader that stops early leaves the request running in the engine.
            with _translated(begun=True):
                async with contextlib.aclosing(stream):
                    async for output in stream:
                        for chunk in chunks_of(output, sampling):
                            yield chunk
        finally:
            self._streams -= 1

    async def check(self) -> None:
        self._ensure_open()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await self._core.close()
            if self._llm.output_handler is not None:  # It would log the core's end as an error.
                self._llm.output_handler.cancel()
            await asyncio.to_thread(self._llm.shutdown, timeout=SHUTDOWN_SECONDS)
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
            await self._core.call("hotshoe_leave_interrupts_to_server")
            (operators,) = await self._core.call("hotshoe_operators")
        stock = not current_platform.is_cpu() or lora_cpu.is_stock()
        if not stock and operators != [lora_cpu.OPERATORS]:
            # vLLM logs that a plugin failed and goes on without it.
            raise EngineUnavailable(
                f"vLLM runs {', '.join(operators)}, which mixes tenants' adapters, in the place of "
                f"{lora_cpu.OPERATORS}: its plugin {PLUGIN} did not load; reinstall hotshoe"
            )

    async def _ask_for_verdict(self, key: str, told: Wanted | None) -> str | None:
        rest = () if told is None else (told.tenant, told.kind, told.text)
        (verdict,) = await self._core.call("hotshoe_structure", key, *rest)
        return None if verdict is None else str(verdict)

    async def _forget(self, adapter_id: int) -> None:
        """Take out what a failed load left: vLLM keeps the id, and would serve partial weights under it."""
        with contextlib.suppress(Exception):
            await asyncio.shield(self._core.answer(self._llm.remove_lora(adapter_id)))


def _sha256(template: object) -> str:
    """As training notes it down; empty for what is no one text (some bases have several, by name)."""
    if template is not None and not isinstance(template, str):
        return ""
    return hashlib.sha256((template or "").encode()).hexdigest()


def _do_nothing() -> None:
    pass


@contextlib.contextmanager
def _translated(*, begun: bool = False) -> Iterator[None]:
    """Raise the errors of our tree for vLLM's. begun: with an answer."""
    try:
        yield
    except EngineDeadError as error:
        raise _dead(begun=begun) from error
    except EngineGenerateError as error:
        text = f"the engine failed on this request: {_cause(error)}"
        raise EngineUnavailable(text, begun=begun) from error
    except (VLLMClientError, ValueError) as error:
        raise _refused(error) from error


def _refused(error: Exception) -> HotshoeError:
    text = str(error)
    if "maximum context length" in text or "longer than the maximum model length" in text:
        return PromptTooLong(f"{text}: shorten the prompt or ask for fewer tokens")
    return InvalidRequest(f"the engine refuses this request: {text}")


def _dead(*, begun: bool = False) -> EngineUnavailable:
    text = "the engine died: it is restarted or the server is; try again later"
    return EngineUnavailable(text, begun=begun)


def _cause(error: BaseException) -> str:
    """The innermost message: vLLM wraps the telling one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
