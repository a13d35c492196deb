"""vLLM's scheduler, which lets an answer sit out the steps that its structure is not ready for."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from hotshoe.serve.structures.backend import ApartBackend, ApartGrammar
from hotshoe.serve.structures.limits import GRACE_SECONDS
from hotshoe.serve.structures.worker import look_after

WARM_UP_AFTER_SECONDS = 5.0
"""The engine's own start comes first, then what only some requests need."""

OPENED_AT_ONCE = 16


class _Patient:
    """Mixed into vLLM's schedulers."""

    running: list[Any]
    current_step: int

    def __init__(self, vllm_config: Any, kv_cache_config: Any, structured_output_manager: Any, **rest: Any):
        super().__init__(  # type: ignore[call-arg]
            vllm_config=vllm_config,
            kv_cache_config=kv_cache_config,
            structured_output_manager=structured_output_manager,
            **rest,
        )
        backend = ApartBackend(
            vllm_config, structured_output_manager.tokenizer, vllm_config.model_config.get_vocab_size()
        )
        structured_output_manager.backend = backend
        # Each of these waits for a process to begin with an answer: a slow one must not keep others waiting.
        structured_output_manager.executor = ThreadPoolExecutor(OPENED_AT_ONCE, thread_name_prefix="open")
        self._processes = backend.processes
        look_after(self._processes)
        timer = threading.Timer(WARM_UP_AFTER_SECONDS, self._processes.warm_up)
        timer.daemon = True
        timer.start()

    def schedule(self, *arguments: Any, **named: Any) -> Any:
        self._sit_out()
        return super().schedule(*arguments, **named)  # type: ignore[misc]

    def _sit_out(self) -> None:
        """Take out of the next step who does not know what may come in it."""
        until = 0.0
        for request in self.running:
            structured = request.structured_output_request
            if structured is None or not isinstance(grammar := structured.grammar, ApartGrammar):
                continue
            follower = grammar.follower
            if request.num_output_placeholders:
                # Planned ahead: what comes before is not known yet, so neither is what may come next. Who is
                # quick will know in time.
                ready = follower.process.prompt
            elif not (ready := self._processes.ready(follower)) and follower.process.prompt:
                until = until or time.monotonic() + GRACE_SECONDS
                ready = self._processes.ready(follower, until - time.monotonic())
            if not ready:
                request.next_decode_eligible_step = max(
                    request.next_decode_eligible_step, self.current_step + 2
                )


class PatientScheduler(_Patient, Scheduler):  # type: ignore[misc]
    """Where vLLM plans one step at a time."""


class PatientAsyncScheduler(_Patient, AsyncScheduler):  # type: ignore[misc]
    """Where vLLM plans a step ahead."""
