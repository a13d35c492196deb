"""Few streams tell of each token, many bundle theirs; a first token and an end are never held back."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.v1.engine import EngineCoreOutput, FinishReason

from hotshoe.serve.pacing import LONGEST_SECONDS, Pace, seconds_between

SECONDS = 0.064


def request(**params: Any) -> Any:
    wanted = {"stop": [], "logprobs": None, "prompt_logprobs": None, **params}
    return SimpleNamespace(sampling_params=SimpleNamespace(**wanted))


def made(name: str, *tokens: int, end: bool = False) -> EngineCoreOutput:
    return EngineCoreOutput(name, list(tokens), finish_reason=FinishReason.LENGTH if end else None)


def told(outputs: list[EngineCoreOutput]) -> list[tuple[str, list[int]]]:
    return [(each.request_id, each.new_token_ids) for each in outputs]


def test_few_streams_tell_of_every_token() -> None:
    assert seconds_between(4) == 0


def test_the_time_between_messages_grows_with_the_streams_up_to_a_bound() -> None:
    assert seconds_between(64) == 0.064
    assert seconds_between(4000) == LONGEST_SECONDS


def test_the_first_token_goes_at_once_and_the_next_ones_together() -> None:
    pace, running = Pace(), {"a": request()}
    assert told(pace.due([made("a", 1)], running, SECONDS, 0.0)) == [("a", [1])]
    assert pace.due([made("a", 2)], running, SECONDS, 0.02) == []
    assert pace.due([made("a", 3)], running, SECONDS, 0.04) == []
    assert told(pace.due([made("a", 4)], running, SECONDS, 0.07)) == [("a", [2, 3, 4])]


def test_an_end_goes_at_once_with_what_was_held() -> None:
    pace, running = Pace(), {"a": request()}
    pace.due([made("a", 1)], running, SECONDS, 0.0)
    pace.due([made("a", 2)], running, SECONDS, 0.01)
    (end,) = pace.due([made("a", 3, end=True)], {}, SECONDS, 0.02)
    assert (end.new_token_ids, end.finish_reason) == ([2, 3], FinishReason.LENGTH)


def test_what_is_held_goes_when_it_is_due_though_its_stream_sits_the_step_out() -> None:
    pace, running = Pace(), {"a": request(), "b": request()}
    pace.due([made("a", 1)], running, SECONDS, 0.0)
    pace.due([made("a", 2)], running, SECONDS, 0.01)
    assert told(pace.due([made("b", 7)], running, SECONDS, 0.07)) == [("b", [7]), ("a", [2])]
    assert pace.due([], running, SECONDS, 0.2) == []


def test_a_stream_that_was_called_off_is_forgotten() -> None:
    pace, running = Pace(), {"a": request()}
    pace.due([made("a", 1)], running, SECONDS, 0.0)
    pace.due([made("a", 2)], running, SECONDS, 0.01)
    assert pace.due([], {}, SECONDS, 0.07) == []
    assert not pace._streams


@pytest.mark.parametrize("params", [{"stop": ["end"]}, {"logprobs": 0}, {"prompt_logprobs": 1}])
def test_words_to_stop_at_and_probabilities_are_told_as_they_come(params: dict[str, Any]) -> None:
    pace, running = Pace(), {"a": request(**params)}
    for token in range(3):
        assert told(pace.due([made("a", token)], running, SECONDS, token / 100)) == [("a", [token])]


Step = tuple[set[str], set[str], float]


@given(st.lists(st.tuples(*2 * [st.sets(st.sampled_from("abc"))], st.floats(0, 0.3)), max_size=30))
def test_nothing_is_lost_doubled_or_late_whatever_comes_when(steps: list[Step]) -> None:
    """A step: who makes a token, which of them ends by it, and how long it takes."""
    pace, running = Pace(), {name: request() for name in "abc"}
    now, makes = 0.0, defaultdict[str, list[int]](list)
    hears = defaultdict[str, list[int]](list)
    waits: dict[str, float] = {}
    for token, (awake, ending, seconds) in enumerate(steps):
        outputs = []
        for name in sorted(awake & running.keys()):
            makes[name].append(token)
            waits.setdefault(name, now)
            outputs.append(made(name, token, end=name in ending))
            if name in ending:
                del running[name]
        for output in pace.due(outputs, running, SECONDS, now):
            hears[output.request_id] += output.new_token_ids
            assert (output.finish_reason is None) == (output.request_id in running)
            del waits[output.request_id]
        for name in awake:
            assert hears[name][:1] == makes[name][:1]
            assert name in running or hears[name] == makes[name]
        assert all(now - since <= SECONDS for since in waits.values())
        now += seconds
    for output in pace.due([], running, SECONDS, now + SECONDS):
        hears[output.request_id] += output.new_token_ids
    assert hears == makes
