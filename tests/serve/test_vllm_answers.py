"""What the real engine makes of the less usual ways to sample."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from support.engines import chunks

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.serve.engine import EngineChunk
from hotshoe.wire.structure import Choice, Grammar, JsonSchema, Regex, Structure
from hotshoe.wire.values import FinishReason, Sampling

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

pytestmark = pytest.mark.engine

PROMPT = "Dear support, my invoice of March is wrong;"


def texts(found: list[EngineChunk]) -> list[str]:
    """The answers, by index."""
    whole: dict[int, str] = defaultdict(str)
    for chunk in found:
        whole[chunk.index] += chunk.text
    return [whole[index] for index in sorted(whole)]


def ids(found: list[EngineChunk]) -> list[int]:
    """The tokens of the answer."""
    return [token for chunk in found for token in chunk.token_ids]


async def answer(engine: VllmEngine, **sampling: object) -> list[EngineChunk]:
    defaults: dict[str, object] = {"temperature": 0.0, "max_tokens": 12}
    return await chunks(engine, PROMPT, sampling=Sampling(**(defaults | sampling)))  # type: ignore[arg-type]


async def test_several_answers_end_each_for_itself(tiny_engine: VllmEngine) -> None:
    found = await answer(tiny_engine, n=4, temperature=1.0, seed=7, ignore_eos=True)
    ends = [chunk.index for chunk in found if chunk.finish_reason is FinishReason.LENGTH]
    assert sorted(ends) == [0, 1, 2, 3]
    assert len(set(texts(found))) > 1
    for index in range(4):
        assert sum(len(chunk.token_ids) for chunk in found if chunk.index == index) == 12


async def test_log_probabilities_say_what_greedy_took(tiny_engine: VllmEngine) -> None:
    found = await answer(tiny_engine, logprobs=3, ignore_eos=True)
    told = [each for chunk in found for each in chunk.logprobs]
    assert [each.token_id for each in told] == [token for chunk in found for token in chunk.token_ids]
    for each in told:
        assert len(each.top) == 3
        assert each.top[0].token_id == each.token_id
        assert each.top[0].logprob == each.logprob < 0
        assert sum(math.exp(top.logprob) for top in each.top) <= 1.0001


async def test_no_alternatives_are_told_if_none_were_asked_for(tiny_engine: VllmEngine) -> None:
    found = await answer(tiny_engine, logprobs=0, max_tokens=3)
    assert all(not each.top for chunk in found for each in chunk.logprobs)
    assert all(len(chunk.logprobs) == len(chunk.token_ids) for chunk in found)


async def test_a_bias_of_a_hundred_decides(tiny_engine: VllmEngine) -> None:
    found = await answer(tiny_engine, logit_bias=((300, 100.0),), max_tokens=4, ignore_eos=True)
    assert ids(found) == [300] * 4


async def test_a_stop_token_ends_the_answer(tiny_engine: VllmEngine) -> None:
    found = await answer(tiny_engine, logit_bias=((300, 100.0),), stop_token_ids=(301, 300), ignore_eos=True)
    assert ids(found) == [300]
    assert found[-1].finish_reason is FinishReason.STOP


async def test_an_answer_does_not_stop_before_it_has_its_least_tokens(tiny_engine: VllmEngine) -> None:
    found = await answer(tiny_engine, logit_bias=((300, 100.0),), stop_token_ids=(300,), min_tokens=5)
    assert ids(found).index(300) == 5
    assert found[-1].finish_reason is FinishReason.STOP


async def test_a_prompt_that_was_asked_before_is_read_from_the_cache(tiny_engine: VllmEngine) -> None:
    prompt = tuple(range(400, 700))  # Over two blocks of the cache; no other test asks it.
    sampling = Sampling(temperature=0.0, max_tokens=4, ignore_eos=True)
    first, again = [await chunks(tiny_engine, prompt, sampling=sampling) for _ in range(2)]
    assert {chunk.cached_tokens for chunk in first} == {0}
    (cached,) = {chunk.cached_tokens for chunk in again}
    assert 128 <= cached < len(prompt)
    assert ids(again) == ids(first)


SCHEMA = {
    "type": "object",
    "properties": {"urgent": {"type": "boolean"}, "team": {"enum": ["billing", "returns"]}},
    "required": ["urgent", "team"],
    "additionalProperties": False,
}


async def test_an_answer_keeps_to_a_json_schema(tiny_engine: VllmEngine) -> None:
    found = await answer(tiny_engine, structure=JsonSchema(json.dumps(SCHEMA)), max_tokens=200)
    parsed = json.loads("".join(texts(found)))
    assert set(parsed) == {"urgent", "team"}
    assert parsed["team"] in ("billing", "returns")


async def test_an_answer_keeps_to_a_regular_expression(tiny_engine: VllmEngine) -> None:
    pattern = r"order-[0-9]{3}-[a-c]+z"
    found = await answer(tiny_engine, structure=Regex(pattern), max_tokens=60, logit_bias=())
    text = "".join(texts(found))
    assert text.startswith("order-")
    if found[-1].finish_reason is FinishReason.STOP:
        assert re.fullmatch(pattern, text)


async def test_an_answer_is_one_of_the_choices(tiny_engine: VllmEngine) -> None:
    options = ("keep", "refund", "replace")
    found = await answer(tiny_engine, structure=Choice(options), max_tokens=40)
    assert "".join(texts(found)) in options


async def test_an_answer_keeps_to_a_grammar(tiny_engine: VllmEngine) -> None:
    grammar = Grammar('root ::= "yes" | "no" | "maybe, " root')
    found = await answer(tiny_engine, structure=grammar, max_tokens=80)
    assert re.match(r"(maybe, )*(yes|no|m?)", "".join(texts(found)))


@pytest.mark.parametrize(
    "structure",
    [
        Regex("(unclosed"),
        Regex("[z-a]"),
        Grammar("root ::= ("),
        Grammar("no root at all"),
        JsonSchema('{"type": "nonsense"}'),
        JsonSchema('{"$ref": "#/nowhere"}'),
        JsonSchema('{"type": "string", "pattern": "("}'),
        JsonSchema('{"type": "object", "properties": 3}'),
    ],
    ids=str,
)
async def test_a_structure_that_cannot_be_kept_hurts_nobody(
    tiny_engine: VllmEngine, structure: Structure
) -> None:
    before = texts(await answer(tiny_engine))
    try:
        await answer(tiny_engine, structure=structure, max_tokens=20)
    except InvalidRequest as error:
        refusal = error.message
    else:
        refusal = ""
    assert "Traceback" not in refusal
    await tiny_engine.check()
    assert texts(await answer(tiny_engine)) == before


@pytest.mark.parametrize("wrong", [{"logit_bias": ((1_000_000, 1.0),)}, {"stop_token_ids": (1_000_000,)}])
async def test_tokens_that_are_not_there_are_refused_or_do_nothing(
    tiny_engine: VllmEngine, wrong: dict[str, object]
) -> None:
    try:
        await answer(tiny_engine, **wrong)
    except InvalidRequest as error:
        assert "1000000" in error.message or "vocab" in error.message  # noqa: PT017
    await tiny_engine.check()
