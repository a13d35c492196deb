"""Whoever merely goes on is taken note of without vLLM: nobody hears, has or keeps anything else for it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.sampling_params import RepetitionDetectionParams, StructuredOutputsParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import LogprobsLists, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from hotshoe.serve.going_on import GoingOn, plain
from hotshoe.serve.overflow import OVERFLOWED, EndOverflowed
from hotshoe.serve.pacing import Paced
from hotshoe.serve.room import Roomy
from hotshoe.serve.vllm_scheduler import AheadScheduler, StepwiseScheduler

SIZE, BLOCKS, CONTEXT, SEQUENCES = 4, 11, 24, 6

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "short": {"max_tokens": 3},
    "stops": {"stop_token_ids": [2]},
    "at least": {"stop_token_ids": [2], "min_tokens": 3},
    "logprobs": {"logprobs": 1},
    "no end": {"ignore_eos": True},
    "repeats": {"repetition_detection": RepetitionDetectionParams(2, 1, 3)},
}
EOS = 3

BEGINS = st.tuples(
    st.just("begins"), st.sampled_from([*KINDS]), st.lists(st.integers(0, 1), min_size=1, max_size=9)
)
TOKENS = st.lists(st.integers(0, 5), min_size=SEQUENCES, max_size=SEQUENCES)
STEPS = st.lists(st.tuples(st.just("steps"), TOKENS, st.sampled_from([0, 1, 2, 9])), min_size=3, max_size=9)
REST = st.tuples(st.sampled_from(["aborts", "aborts_in_step", "overflows"]), st.integers(0, 5)) | BEGINS
ACTIONS = st.tuples(
    st.lists(BEGINS, min_size=3, max_size=SEQUENCES), st.lists(STEPS | st.lists(REST, max_size=2), max_size=9)
).map(lambda begun: [*begun[0], *itertools.chain.from_iterable(begun[1])])


class All(Paced, EndOverflowed, Scheduler):  # type: ignore[misc]
    """vLLM looks at each token of each request."""


class Vllms(EndOverflowed, Scheduler):  # type: ignore[misc]
    """It tells of each, too, when it is made."""


class Fast(GoingOn, Paced, EndOverflowed, Roomy, Scheduler):  # type: ignore[misc]
    """It looks at those that may be more than one token."""


@pytest.fixture(scope="module")
def configured(tiny_base: Path) -> Callable[[], VllmConfig]:
    """Not the configuration itself: hypothesis would fail at printing it."""
    config = EngineArgs(
        model=str(tiny_base),
        max_model_len=CONTEXT,
        max_num_seqs=SEQUENCES,
        max_num_batched_tokens=16,
        block_size=SIZE,
        enforce_eager=True,
        async_scheduling=False,
    ).create_engine_config()
    config.cache_config.num_gpu_blocks = BLOCKS
    return lambda: config


class Core:
    """A scheduler, and a model that says what it is told to."""

    def __init__(
        self, kind: type[Scheduler], config: VllmConfig, clock: list[float], log_stats: bool
    ) -> None:
        init_none_hash(sha256)
        spec = FullAttentionSpec(block_size=SIZE, num_kv_heads=1, head_size=8, dtype=torch.float32)
        caches = KVCacheConfig(BLOCKS, [], [KVCacheGroupSpec(["layer"], spec)])
        manager = StructuredOutputManager(config)
        self.scheduler = kind(
            config, caches, manager, block_size=SIZE, hash_block_size=SIZE, log_stats=log_stats
        )
        self._hasher = get_request_block_hasher(SIZE, sha256)
        self._clock = clock
        self._names = itertools.count()
        self._overflows: int | None = None
        self._aborted: int | None = None

    def begins(self, kind: str, prompt: Sequence[int]) -> None:
        wanted = SamplingParams(**{"max_tokens": CONTEXT, **KINDS[kind]})
        wanted.update_from_generation_config({}, EOS)
        name = f"r{next(self._names)}"
        self.scheduler.add_request(Request(name, [*prompt], wanted, None, block_hasher=self._hasher))

    def aborts(self, number: int) -> None:
        if number < len(names := [*self.scheduler.requests]):
            self.scheduler.finish_requests(names[number], RequestStatus.FINISHED_ABORTED)

    def aborts_in_step(self, number: int) -> None:
        self._aborted = number

    def overflows(self, number: int) -> None:
        self._overflows = number

    def steps(self, tokens: Sequence[int], milliseconds: int) -> object:
        """One step: what it tells the server."""
        self._clock[0] += milliseconds / 1000
        if not self.scheduler.has_requests():
            return None
        planned = self.scheduler.schedule()
        rows = [*planned.num_scheduled_tokens]
        requests = [self.scheduler.requests[name] for name in rows]
        whole = [request.num_computed_tokens == request.num_tokens for request in requests]
        sampled = [[token] if there else [] for token, there in zip(tokens, whole, strict=False)]
        made = ModelRunnerOutput(
            rows,
            {name: row for row, name in enumerate(rows)},
            sampled,
            logprobs=LogprobsLists(
                np.array([[t] for t in tokens]), np.zeros((len(tokens), 1)), np.array(tokens)
            ),
            num_nans_in_logits={name: int(row == self._overflows) for row, name in enumerate(rows)},
        )
        if self._aborted is not None:
            self.aborts(self._aborted)
        self._overflows = self._aborted = None
        found = self.scheduler.update_from_output(planned, made)
        return [(sorted(map(_heard, step.outputs), key=str), step.scheduler_stats) for step in found.values()]

    def state(self) -> object:
        requests, kept = self.scheduler.requests, self.scheduler.kv_cache_manager.block_pool.blocks
        return (
            {name: _state(request) for name, request in requests.items()},
            [request.request_id for request in self.scheduler.running],
            [(block.ref_cnt, block.block_hash) for block in kept],
            self.scheduler.finished_req_ids,
        )


def _state(request: Request) -> dict[str, Any]:
    """All there is in one that both have, and not only one of the two."""
    own = ("sampling_params", "arrival_time", "events", "output_token_ids", "all_token_ids", "prefill_stats")
    values = {name: value for name, value in vars(request).items() if name not in own}
    return {**values, "events": len(request.events), "_block_hasher": None}


def _heard(output: Any) -> object:
    return (
        output.request_id,
        output.new_token_ids,
        output.finish_reason,
        output.stop_reason,
        len(output.events or ()),
        output.prefill_stats is None,
        output.new_logprobs and output.new_logprobs.logprob_token_ids.tolist(),
    )


def _both(
    config: VllmConfig, actions: Sequence[tuple[Any, ...]], log_stats: bool = True, fast: type[Fast] = Fast
) -> list[object]:
    """Do this to either kind and see that nobody could tell them apart; return what they said."""
    clock, said = [0.0], []
    with mock.patch.object(time, "monotonic", side_effect=lambda: clock[0]):
        ours, theirs = Core(fast, config, clock, log_stats), Core(All, config, [0.0], log_stats)
        for name, *arguments in actions:
            ours_said = getattr(ours, name)(*arguments)
            assert ours_said == getattr(theirs, name)(*arguments)
            assert ours.state() == theirs.state()
            known = ours.scheduler._plain.keys()
            assert known <= ours.scheduler.requests.keys() | ours.scheduler.finished_req_ids
            said.append(ours_said)
    return said


@given(actions=ACTIONS, log_stats=st.booleans())
def test_nobody_could_tell_that_vllm_was_not_asked(
    configured: Callable[[], VllmConfig], actions: list[tuple[Any, ...]], log_stats: bool
) -> None:
    _both(configured(), actions, log_stats)


def test_vllm_is_asked_only_when_all_is_told_of_and_of_whoever_ends(
    configured: Callable[[], VllmConfig],
) -> None:
    begin = [("begins", kind, [1, 0]) for kind in ("plain", "plain", "short", "logprobs")]
    steps = [("steps", [1] * SEQUENCES, 1)] * 9
    looked = []

    class Counted(Fast):
        def _update_request_with_output(self, request: Request, *rest: Any, **named: Any) -> Any:
            looked.append(f"{request.request_id} {request.num_output_tokens + 1}")
            return super()._update_request_with_output(request, *rest, **named)

    said = _both(configured(), [*begin, *steps], fast=Counted)
    # With four streams all is told of every 8 ms. That one merely goes on is known from its second token on.
    assert [each for each in looked if each.startswith("r0")] == ["r0 1", "r0 2", "r0 9"]
    assert [each for each in looked if each.startswith("r2")] == ["r2 1", "r2 2", "r2 3"]
    assert [each for each in looked if each.startswith("r3")] == [f"r3 {n}" for n in range(1, 10)]
    assert [number for number, step in enumerate(said[len(begin) :], 1) if step] == [1, 3, 9]


def test_one_that_overflows_ends_though_others_go_on(configured: Callable[[], VllmConfig]) -> None:
    begin = [("begins", "plain", [1, 0])] * 3
    steps = [("steps", [1] * SEQUENCES, 1)] * 4
    said = _both(configured(), [*begin, *steps, ("overflows", 1), *steps])
    ends = [output for step in said if step for output in step[0][0] if output[2] is not None]  # type: ignore[index]
    assert [(end[0], end[1], end[3]) for end in ends] == [("r1", [1, 1, 1], OVERFLOWED)]


def test_who_left_the_step_or_made_no_or_many_tokens_is_left_to_vllm() -> None:
    request = Request("a", [1, 0], SamplingParams(max_tokens=9), None)
    request.prefill_stats = None
    known = plain(request, CONTEXT)
    assert known is not None
    assert not known.goes_on([1])
    request.status = RequestStatus.RUNNING
    assert known.goes_on([1])
    assert not known.goes_on([])
    assert not known.goes_on([1, 1])
    request.num_stale_output_tokens = 1
    assert not known.goes_on([1])


def test_a_server_plans_with_all_of_it() -> None:
    assert issubclass(StepwiseScheduler, GoingOn)
    assert issubclass(StepwiseScheduler, Roomy)
    assert issubclass(AheadScheduler, Roomy)
    # Tokens that are not known yet when the next step is planned are vLLM's to take note of.
    assert not issubclass(AheadScheduler, GoingOn)


@pytest.mark.parametrize(
    ("wanted", "also"),
    [
        ({"prompt_logprobs": 1}, {}),
        ({"logprob_token_ids": [1]}, {}),
        ({"structured_outputs": StructuredOutputsParams(json="{}")}, {}),
        ({}, {"resumable": True}),
        ({}, {"trace_headers": {"traceparent": "00"}}),
        ({}, {"mm_features": [object()]}),
    ],
)
def test_of_whom_more_is_wanted_than_tokens_is_left_to_vllm(
    wanted: dict[str, Any], also: dict[str, Any]
) -> None:
    request = Request("a", [1, 0], SamplingParams(max_tokens=9, **wanted), None, **also)
    request.prefill_stats = None
    assert plain(request, CONTEXT) is None


@given(actions=ACTIONS)
def test_all_is_told_of_in_the_end_and_counted_as_vllm_counts(
    configured: Callable[[], VllmConfig], actions: list[tuple[Any, ...]]
) -> None:
    told = []
    ends = [("steps", [1] * SEQUENCES, 1)] * 120
    for kind in (Fast, Vllms):
        clock = [0.0]
        with mock.patch.object(time, "monotonic", side_effect=lambda clock=clock: clock[0]):
            core = Core(kind, configured(), clock, log_stats=True)
            said = [getattr(core, name)(*arguments) for name, *arguments in (*actions, *ends)]
        told.append(_summed(itertools.chain.from_iterable(filter(None, said))))
    ours, theirs = told
    assert ours["stats"] == theirs["stats"]
    for name, tokens in theirs["tokens"].items():
        assert ours["tokens"].get(name, [])[: len(tokens)] == tokens[: len(ours["tokens"].get(name, []))]
        assert name not in theirs["ended"] or ours["tokens"][name] == tokens
    assert ours["ended"] == theirs["ended"]


def _summed(steps: Iterable[Any]) -> dict[str, Any]:
    """All tokens and the end of each request; what came of its counts, and the last statistics."""
    tokens: dict[str, list[int]] = {}
    ended, counted, last = {}, [0, 0, 0], None
    for outputs, stats in steps:
        for name, new, reason, *_ in outputs:
            tokens.setdefault(name, []).extend(new)
            if reason is not None:
                ended[name] = reason
        if stats is not None:
            each = stats.prefix_cache_stats
            counted = [a + b for a, b in zip(counted, (each.requests, each.queries, each.hits), strict=True)]
            last = (stats.num_running_reqs, stats.num_waiting_reqs, stats.kv_cache_usage)
    return {"tokens": tokens, "ended": ended, "stats": (counted, last)}
