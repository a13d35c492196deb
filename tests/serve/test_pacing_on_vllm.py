"""A crowd on the real engine: its tokens come in bundles, and are those that one alone gets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.engines import chunks

from hotshoe.serve.engine import EngineChunk
from hotshoe.wire.values import FinishReason, Sampling

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

PROMPT = "A stream among many."


@pytest.mark.parametrize("logprobs", [None, 2])
async def test_many_streams_bundle_their_tokens_and_say_what_one_alone_says(
    tiny_engine: VllmEngine, logprobs: int | None
) -> None:
    sampling = Sampling(temperature=0, max_tokens=40, ignore_eos=True, logprobs=logprobs)
    alone = await chunks(tiny_engine, PROMPT, sampling=sampling)
    crowd = await asyncio.gather(*(chunks(tiny_engine, PROMPT, sampling=sampling) for _ in range(24)))

    def whole(answer: list[EngineChunk]) -> tuple[str, list[int], list[int]]:
        told = [each.token_id for chunk in answer for each in chunk.logprobs]
        return "".join(each.text for each in answer), [i for each in answer for i in each.token_ids], told

    assert all(whole(answer) == whole(alone) for answer in crowd)
    assert all(answer[-1].finish_reason == FinishReason.LENGTH for answer in crowd)
    assert sum(map(len, crowd)) < 24 * len(alone)
    assert all(len(each.logprobs) == (len(each.token_ids) if logprobs else 0) for each in crowd[0])


async def test_a_crowd_stops_at_its_words(tiny_engine: VllmEngine) -> None:
    (plain,) = await _texts(tiny_engine, 1, Sampling(temperature=0, max_tokens=40, ignore_eos=True))
    word = plain[len(plain) // 2 :][:3]
    sampling = Sampling(temperature=0, max_tokens=40, ignore_eos=True, stop=(word,))
    assert await _texts(tiny_engine, 24, sampling) == [plain[: plain.index(word)]] * 24


async def _texts(engine: VllmEngine, answers: int, sampling: Sampling) -> list[str]:
    """The same question so many times at once."""
    found = await asyncio.gather(*(chunks(engine, PROMPT, sampling=sampling) for _ in range(answers)))
    return ["".join(chunk.text for chunk in answer) for answer in found]
