"""Takes note of what a step made for those who merely go on: one token, no end, nothing else to tell.

That is nearly every request in nearly every step, and vLLM asks of each all that could have happened to it
and makes a message for the server. docs/benchmarks.md has what it costs.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

from hotshoe.serve.pacing import Pace


class Plain(NamedTuple):
    """A request of which nothing is wanted but tokens. stops: those that end it. until: how many it may have,
    those of its prompt included."""

    request: Request
    stops: frozenset[int]
    until: int

    def goes_on(self, tokens: Sequence[int]) -> bool:
        """Whether these are one token more, and not its last."""
        request = self.request
        return (
            len(tokens) == 1
            and tokens[0] not in self.stops
            and request.num_tokens + 1 < self.until
            and request.status is RequestStatus.RUNNING
            and not request.num_stale_output_tokens
            and not request.events
        )


def plain(request: Request, context: int) -> Plain | None:
    """What there is to know of it, or None: vLLM has to look at each of its tokens. context: in tokens."""
    wanted = request.sampling_params
    if (
        wanted is None
        or wanted.num_logprobs is not None
        or wanted.prompt_logprobs is not None
        or wanted.repetition_detection is not None
        or request.structured_output_request is not None
        or request.prefill_stats is not None  # Its first token tells of them.
        or request.mm_features
        or request.resumable
        or request.trace_headers
        or request.spec_decode_metrics is not None
    ):
        return None
    stops = frozenset((wanted.eos_token_id, *(wanted.stop_token_ids or ())))
    return Plain(request, stops, min(context, request.num_prompt_tokens + request.max_tokens))


class GoingOn:
    """Mixed into vLLM's scheduler, before `Paced`; into that which plans one step at a time."""

    requests: dict[str, Request]
    max_model_len: int
    _pace: Pace

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._plain: dict[str, Plain] = {}
        self._only_tokens = _makes_only_tokens(self)

    def update_from_output(self, scheduled: SchedulerOutput, made: ModelRunnerOutput) -> Any:
        for name in scheduled.finished_req_ids:
            self._plain.pop(name, None)
        if self._only_tokens and _is_sound(made) and not self._pace.due(time.monotonic()):
            scheduled = self._noted(scheduled, made)
        return super().update_from_output(scheduled, made)  # type: ignore[misc]

    def _noted(self, scheduled: SchedulerOutput, made: ModelRunnerOutput) -> SchedulerOutput:
        """Take note of those who go on; return the step of all others."""
        others = copy.copy(scheduled)
        others.num_scheduled_tokens = {}
        for name, count in scheduled.num_scheduled_tokens.items():
            if (known := self._plain.get(name)) is not None:
                tokens = made.sampled_token_ids[made.req_id_to_index[name]]
                if known.goes_on(tokens):
                    known.request.num_in_flight_tokens -= count
                    known.request.append_output_token_ids(tokens[0])
                    self._pace.hold(name, tokens[0])
                    continue
            elif (request := self.requests.get(name)) and (found := plain(request, self.max_model_len)):
                self._plain[name] = found
            others.num_scheduled_tokens[name] = count
        return others


def _makes_only_tokens(scheduler: Any) -> bool:
    """Whether its steps make nothing but tokens, and nobody counts what each of them did."""
    return not (
        scheduler.connector
        or scheduler.ec_connector
        or scheduler.aux_output_connector
        or scheduler.return_sampling_mask
        or scheduler.num_spec_tokens
        or (scheduler.perf_metrics and scheduler.perf_metrics.is_enabled())
    )


def _is_sound(made: ModelRunnerOutput) -> bool:
    """Whether there are tokens, and all were chosen by numbers."""
    return bool(made.sampled_token_ids) and not any((made.num_nans_in_logits or {}).values())
