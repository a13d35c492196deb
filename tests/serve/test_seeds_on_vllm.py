"""A seed gives the same answer, however many steps the prompt takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.engines import tokens

from hotshoe.wire.values import Sampling

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

SEEDED = Sampling(temperature=1.0, seed=5, max_tokens=8, ignore_eos=True)


async def test_a_seeded_answer_is_the_same_whether_its_prompt_came_in_one_step_or_in_several(
    tiny_engine: VllmEngine,
) -> None:
    long = tuple(range(10, 410))  # More than the 256 tokens of a step.
    in_steps = await tokens(tiny_engine, long, sampling=SEEDED)
    in_one = await tokens(tiny_engine, long, sampling=SEEDED)  # Most of it is in the prefix cache now.
    beside = await asyncio.gather(*(tokens(tiny_engine, long[n:], sampling=SEEDED) for n in range(5)))
    assert (in_one, beside[0]) == (in_steps, in_steps)
