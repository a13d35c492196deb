"""What a request may say."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hotshoe.adapter.errors import EmptyPrompt, InvalidRequest
from hotshoe.adapter.manifest import Base
from hotshoe.wire.structure import Choice, Grammar, JsonSchema, Regex
from hotshoe.wire.values import Chat, GenerateRequest, Message, Resolved, Sampling, Text, Tokens


@pytest.mark.parametrize(
    "chosen",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 1},
        {"top_k": 0},
        {"min_p": 0},
        {"min_p": 1},
        {"repetition_penalty": 2},
        {"presence_penalty": -2},
        {"frequency_penalty": 2},
        {"seed": 0},
        {"seed": 2**63 - 1},
        {"max_tokens": 1},
        {"max_tokens": 5, "min_tokens": 5},
        {"stop": ("x",) * 16},
        {"stop": ("x" * 256,)},
        {"stop_token_ids": tuple(range(64))},
        {"n": 8},
        {"logprobs": 0},
        {"logprobs": 20},
        {"logit_bias": tuple((token, 100.0) for token in range(300))},
    ],
)
def test_the_edges_of_sampling_are_allowed(chosen: dict[str, Any]) -> None:
    Sampling(**chosen)


@pytest.mark.parametrize(
    "chosen",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": math.nan},
        {"temperature": math.inf},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"presence_penalty": -2.1},
        {"frequency_penalty": 2.1},
        {"seed": -1},
        {"seed": 2**63},
        {"max_tokens": 0},
        {"min_tokens": -1},
        {"max_tokens": 4, "min_tokens": 5},
        {"stop": ("",)},
        {"stop": ("x",) * 17},
        {"stop": ("x" * 257,)},
        {"stop_token_ids": tuple(range(65))},
        {"n": 0},
        {"n": 9},
        {"logprobs": -1},
        {"logprobs": 21},
        {"logit_bias": ((1, 101.0),)},
        {"logit_bias": ((1, math.nan),)},
        {"logit_bias": tuple((token, 1.0) for token in range(301))},
    ],
)
def test_sampling_beyond_the_edges_is_refused_by_name(chosen: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(sorted(chosen)))):
        Sampling(**chosen)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: JsonSchema(""), "json_schema"),
        (lambda: JsonSchema("{"), "no JSON"),
        (lambda: JsonSchema("[]"), "no JSON object"),
        (lambda: JsonSchema("[" * 60_000), "no JSON"),
        (lambda: JsonSchema(" " * 65_537), "json_schema"),
        (lambda: JsonSchema('{"not":' * 65 + "1" + "}" * 65), "deeper than 64 levels"),
        (lambda: JsonSchema('{"enum":' + "[" * 64 + "]" * 64 + "}"), "deeper than 64 levels"),
        (lambda: Regex(" "), "regex"),
        (lambda: Regex("x" * 4097), "regex"),
        (lambda: Grammar(""), "grammar"),
        (lambda: Choice(()), "choice"),
        (lambda: Choice(("",)), "choice"),
        (lambda: Choice(("x",) * 1001), "choice"),
    ],
)
def test_a_structure_that_makes_no_sense_is_refused(make: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        make()


@pytest.mark.parametrize("make", [lambda: Text(""), lambda: Tokens(()), lambda: Chat(())])
def test_a_prompt_of_nothing_is_refused(make: Any) -> None:
    with pytest.raises(EmptyPrompt):
        make()


def test_a_chat_whose_turns_are_all_empty_is_refused() -> None:
    with pytest.raises(EmptyPrompt):
        Chat((Message("system", ""), Message("user", "")))


@pytest.mark.parametrize("wrong", [{"priority": 101}, {"priority": -101}, {"session": "x" * 257}])
def test_a_request_beyond_the_edges_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        GenerateRequest(Text("hi"), **wrong)


def test_an_unknown_role_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidRequest, match="system, user, assistant, tool"):
        Message("robot", "hello")


def test_who_answered_reads_as_a_reference_or_as_base() -> None:
    base = Base("org/model", "", "ab" * 32)
    assert str(Resolved(base)) == "base"
    assert str(Resolved(base, "acme/support", "v7")) == "acme/support@v7"
