"""Lets an answer sit out the steps that its structure is not ready for."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

from hotshoe.serve.structures.backend import ApartBackend, ApartGrammar
from hotshoe.serve.structures.limits import GRACE_SECONDS
from hotshoe.serve.structures.process import Follower
from hotshoe.serve.structures.processes import BUSY
from hotshoe.serve.structures.worker import look_after

WARM_UP_AFTER_SECONDS = 5.0
"""The engine's own start comes first, then what only some requests need."""


class Patient:
    """Mixed into vLLM's schedulers."""

    running: list[Any]
    current_step: int
    grammar_compile_error_reqs: set[str]

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
        self._processes = backend.processes
        look_after(self._processes)
        timer = threading.Timer(WARM_UP_AFTER_SECONDS, self._processes.warm_up)
        timer.daemon = True
        timer.start()

    def schedule(self, *arguments: Any, **named: Any) -> Any:
        self._sit_out()
        return super().schedule(*arguments, **named)  # type: ignore[misc]

    def update_from_output(self, *arguments: Any, **named: Any) -> Any:
        lost = {*self.grammar_compile_error_reqs}
        found = super().update_from_output(*arguments, **named)  # type: ignore[misc]
        if lost:
            # Their structure's process was gone before they began. vLLM tells no reason of its own.
            for each in itertools.chain.from_iterable(outputs.outputs for outputs in found.values()):
                each.stop_reason = BUSY if each.request_id in lost else each.stop_reason
        return found

    def _handle_blocked_waiting_request(self, request: Any) -> bool:
        """Whether one that waits may run in this step: it begins, or comes back after it made room."""
        follower = _follower(request)
        known = follower is None or self._processes.ready(follower)
        return known and super()._handle_blocked_waiting_request(request)  # type: ignore[misc]

    def _update_request_with_output(self, request: Any, *arguments: Any, **named: Any) -> Any:
        found = super()._update_request_with_output(request, *arguments, **named)  # type: ignore[misc]
        fault = follower.fault if (follower := _follower(request)) is not None else None
        if fault is not None and fault.blamed:
            # vLLM is about to end it and tells no reason of its own. `vllm_params.chunks_of` reads this one.
            request.stop_reason = fault.why
        return found

    def _sit_out(self) -> None:
        """Take out of the next step who does not know what may come in it."""
        self._processes.send()
        until = time.monotonic() + GRACE_SECONDS
        for request in self.running:
            follower = _follower(request)
            if follower is not None and not self._known(request, follower, until):
                request.next_decode_eligible_step = max(
                    request.next_decode_eligible_step, self.current_step + 2
                )

    def _known(self, request: Any, follower: Follower, until: float) -> bool:
        if request.num_output_placeholders:
            # Planned ahead, the last token is not known yet, so neither is what may follow it: a step that
            # begins without would have to wait for it, and everybody in the step too.
            return False
        seconds = max(0.0, until - time.monotonic()) if follower.process.prompt else 0.0
        return self._processes.ready(follower, seconds)


def _follower(request: Any) -> Follower | None:
    """Of one that has a structure and was begun with."""
    structured = request.structured_output_request
    grammar = None if structured is None else structured.grammar
    return grammar.follower if isinstance(grammar, ApartGrammar) else None
