"""Ends an answer whose logits are not numbers: whoever gives it, adapter or base, overflows on its prompt.

vLLM would go on and sample from them. Nobody else's rows are touched, see `lora_cpu`.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.request import RequestStatus

OVERFLOWED = "overflowed"
"""The stop reason of an answer that was ended for that; `vllm_params.chunks_of` reads it."""


class EndOverflowed:
    """Mixed into vLLM's schedulers; vLLM counts where VLLM_COMPUTE_NANS_IN_LOGITS is set."""

    _overflowed: frozenset[str] = frozenset()

    def update_from_output(self, scheduled: Any, output: Any) -> Any:
        counts = output.num_nans_in_logits or {}
        self._overflowed = frozenset(request for request, count in counts.items() if count)
        return super().update_from_output(scheduled, output)  # type: ignore[misc]

    def _update_request_with_output(self, request: Any, *arguments: Any, **named: Any) -> Any:
        found = super()._update_request_with_output(request, *arguments, **named)  # type: ignore[misc]
        if request.request_id not in self._overflowed:
            return found
        request.status = RequestStatus.FINISHED_ERROR
        request.resumable = False
        request.stop_reason = OVERFLOWED
        return [], True
