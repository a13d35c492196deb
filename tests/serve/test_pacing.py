"""Few streams tell of each token, many bundle theirs; a first token and an end are never held back."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import NamedTuple
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from vllm.v1.engine import (
    EngineCoreEvent,
    EngineCoreEventType,
    EngineCoreOutput,
    EngineCoreOutputs,
    FinishReason,
)
from vllm.v1.outputs import LogprobsLists

from hotshoe.serve.pacing import LONGEST_SECONDS, Pace, Paced, seconds_between

SECONDS = 0.064


def made(name: str, *tokens: int, end: bool = False) -> EngineCoreOutput:
    return EngineCoreOutput(name, list(tokens), finish_reason=FinishReason.LENGTH if end else None)


def told(outputs: list[EngineCoreOutput]) -> list[tuple[str, list[int]]]:
    return [(each.request_id, each.new_token_ids) for each in outputs]


def test_few_streams_tell_of_every_token() -> None:
    assert seconds_between(2) == 0 < seconds_between(3)


def test_the_time_between_messages_grows_with_the_streams_up_to_a_bound() -> None:
    assert seconds_between(64) == 0.128
    assert seconds_between(4000) == LONGEST_SECONDS


def test_the_first_token_goes_at_once_and_the_next_ones_together() -> None:
    pace, running = Pace(), {"a"}
    assert told(pace.tell([made("a", 1)], running, SECONDS, 0.0)) == [("a", [1])]
    assert pace.tell([made("a", 2)], running, SECONDS, 0.02) == []
    assert pace.tell([made("a", 3)], running, SECONDS, 0.04) == []
    assert told(pace.tell([made("a", 4)], running, SECONDS, 0.07)) == [("a", [2, 3, 4])]


def test_an_end_goes_at_once_with_what_was_held() -> None:
    pace, running = Pace(), {"a"}
    pace.tell([made("a", 1)], running, SECONDS, 0.0)
    pace.tell([made("a", 2)], running, SECONDS, 0.01)
    (end,) = pace.tell([made("a", 3, end=True)], set(), SECONDS, 0.02)
    assert (end.new_token_ids, end.finish_reason) == ([2, 3], FinishReason.LENGTH)


def test_what_is_held_goes_when_it_is_due_though_its_stream_sits_the_step_out() -> None:
    pace, running = Pace(), {"a", "b"}
    pace.tell([made("a", 1)], running, SECONDS, 0.0)
    pace.tell([made("a", 2)], running, SECONDS, 0.01)
    assert told(pace.tell([made("b", 7)], running, SECONDS, 0.07)) == [("b", [7]), ("a", [2])]
    assert pace.tell([], running, SECONDS, 0.2) == []


def test_a_stream_that_was_called_off_is_forgotten() -> None:
    pace, running = Pace(), {"a"}
    pace.tell([made("a", 1)], running, SECONDS, 0.0)
    pace.tell([made("a", 2)], running, SECONDS, 0.01)
    assert pace.tell([], set(), SECONDS, 0.07) == []
    assert not pace._begun
    assert not pace._held


def test_what_happened_to_a_request_is_told_at_once() -> None:
    pace, running = Pace(), {"a"}
    pace.tell([made("a", 1)], running, SECONDS, 0.0)
    moved = made("a", 2)
    moved.events = [EngineCoreEvent.new_event(EngineCoreEventType.PREEMPTED)]
    assert told(pace.tell([moved], running, SECONDS, 0.01)) == [("a", [2])]


def test_log_probabilities_are_bundled_with_their_tokens() -> None:
    pace, running = Pace(), {"a"}
    pace.tell([made("a", 1)], running, SECONDS, 0.0)
    for token in (2, 3):
        output = made("a", token)
        output.new_logprobs = LogprobsLists(
            np.array([[token, 9]]), np.array([[-0.5, -token]]), np.array([token]), None
        )
        (*_, bundle) = [None, *pace.tell([output], running, SECONDS, token / 20 - 0.05)]
    assert bundle is not None
    assert bundle.new_token_ids == [2, 3]
    tokens, logprobs, ranks, _ = bundle.new_logprobs
    assert (tokens.tolist(), ranks.tolist()) == ([[2, 9], [3, 9]], [2, 3])
    assert logprobs.tolist() == [[-0.5, -2], [-0.5, -3]]


def test_an_answer_that_overflows_after_tokens_with_log_probabilities_ends() -> None:
    pace, running = Pace(), {"a"}
    pace.tell([made("a", 1)], running, SECONDS, 0.0)
    output = made("a", 2)
    output.new_logprobs = LogprobsLists(np.array([[2]]), np.array([[-1.0]]), np.array([1]), None)
    pace.tell([output], running, SECONDS, 0.01)
    end = EngineCoreOutput("a", [], finish_reason=FinishReason.ERROR)
    assert pace.tell([end], set(), SECONDS, 0.02) == [end]
    assert end.new_token_ids == [2]
    assert end.new_logprobs is output.new_logprobs


class Made:
    """A scheduler below: each step makes what `steps` says, for all of its requests."""

    def __init__(self, steps: list[list[EngineCoreOutput]]) -> None:
        self.requests = {"a": 1, "b": 2, "c": 3}
        self.running = [*self.requests]
        self._steps = iter(steps)

    def update_from_output(self) -> dict[int, EngineCoreOutputs]:
        stats = self.make_stats(None, None)
        return {0: EngineCoreOutputs(outputs=next(self._steps), scheduler_stats=stats)}

    def make_stats(self, *figures: object) -> str | None:
        return "stats"


class PacedMade(Paced, Made):
    """It, told of at the pace of three streams: every 6 ms."""


def test_a_step_that_says_nothing_wakes_up_nobody_and_statistics_wait_with_the_tokens() -> None:
    steps = [[made("a", 1)], [made("a", 2)], [made("a", 3)], [made("a", 4, end=True)]]
    told_of = []
    with mock.patch.object(time, "monotonic") as clock:
        clock.return_value = 1.0
        scheduler = PacedMade(steps)
        for clock.return_value in (1.0, 1.002, 1.007, 1.008):
            found = scheduler.update_from_output()
            told_of.append({n: (told(step.outputs), step.scheduler_stats) for n, step in found.items()})
    assert told_of == [
        {0: ([("a", [1])], "stats")},
        {},
        {0: ([("a", [2, 3])], "stats")},
        {0: ([("a", [4])], None)},
    ]


def test_statistics_come_at_once_where_nothing_runs_or_there_is_more_to_them() -> None:
    with mock.patch.object(time, "monotonic", return_value=1.0):
        scheduler = PacedMade([[]])
        scheduler.update_from_output()
        assert scheduler.make_stats(None, None) is None
        assert scheduler.make_stats(None, object()) == "stats"
        assert scheduler.make_stats() == "stats"
        scheduler.running = []
        assert scheduler.make_stats(None, None) == "stats"


class Step(NamedTuple):
    """awake: who makes a token. ending: who of them ends by it. off: who is called off before it.

    streams: how many are said to run. seconds: until the next step.
    """

    awake: set[str]
    ending: set[str]
    off: set[str]
    streams: int
    seconds: float


_names = st.sets(st.sampled_from("abc"))
_steps = st.builds(Step, _names, _names, st.just(set()) | _names, st.integers(0, 400), st.floats(0, 0.3))


@given(st.lists(_steps, max_size=30))
def test_nothing_is_lost_doubled_or_late_whatever_comes_when(steps: list[Step]) -> None:
    pace, running = Pace(), set("abc")
    now = 0.0
    makes, hears = (defaultdict[str, list[int]](list) for _ in range(2))
    waits: dict[str, float] = {}
    called_off = set[str]()
    for token, step in enumerate(steps):
        called_off |= step.off & running
        running -= step.off
        outputs = [made(name, token, end=name in step.ending) for name in sorted(step.awake & running)]
        for output in outputs:
            makes[output.request_id].append(token)
            waits.setdefault(output.request_id, now)
        running -= step.awake & step.ending
        for output in pace.tell(outputs, running, seconds_between(step.streams), now):
            hears[output.request_id] += output.new_token_ids
            assert (output.finish_reason is None) == (output.request_id in running)
            del waits[output.request_id]
        waits = {name: since for name, since in waits.items() if name not in called_off}
        assert all(now - since <= LONGEST_SECONDS for since in waits.values())
        for name in step.awake - called_off:
            assert hears[name][:1] == makes[name][:1]
            assert name in running or hears[name] == makes[name]
        now += step.seconds
    for output in pace.tell([], running, 0, now + LONGEST_SECONDS):
        hears[output.request_id] += output.new_token_ids
    for name, tokens in makes.items():
        assert hears[name] == tokens[: len(hears[name])]
        assert name in called_off or hears[name] == tokens
    assert pace._begun <= running
    assert not pace._held
