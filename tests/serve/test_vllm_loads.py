"""Whose turn it is while several adapters load, seen from a core that says what it did of each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from vllm.lora.request import LoRARequest
from vllm.v1.engine.exceptions import EngineDeadError

from hotshoe.adapter.errors import AdapterLoadFailed, EngineUnavailable
from hotshoe.serve.vllm_loads import LOADS_AT_ONCE, Loads

PIECES = 4
"""Between two steps."""


class Core:
    """Does PIECES pieces a call. pieces: of each load, by id. broken: which is refused when it is reached."""

    def __init__(self, pieces: Mapping[int, int], *, broken: int | None = None) -> None:
        self.left = dict(pieces)
        self.calls: list[list[int]] = []
        self._broken = broken

    async def call(self, method: str, wanted: list[tuple[str, int, str]], idle: bool) -> list[list[Any]]:
        assert (method, idle) == ("hotshoe_add", False)
        assert len(wanted) <= LOADS_AT_ONCE
        await asyncio.sleep(0)
        self.calls.append([key for _, key, _ in wanted])
        answers: list[bool | str | None] = []
        budget = PIECES
        for _, key, _ in wanted:
            done = min(budget, self.left[key])
            self.left[key] -= done
            budget -= done
            answers.append("torn" if key == self._broken else True if self.left[key] == 0 else None)
            if not budget:
                break
        return [answers]


def _request(key: int) -> LoRARequest:
    return LoRARequest(f"acme/a{key}@1", key, "/there")


async def _all(core: Any, keys: list[int]) -> list[Any]:
    loads = Loads(core, lambda: False)
    return await asyncio.gather(*(loads.load(_request(key)) for key in keys), return_exceptions=True)


async def test_small_ones_are_loaded_together_and_do_not_wait_for_a_large_one() -> None:
    core = Core({1: 40, 2: 2, 3: 2, 4: 1})

    assert await _all(core, [1, 2, 3, 4]) == [True] * 4

    # The large one's piece, the small ones, and from then on the large one's alone.
    assert core.calls[:4] == [[1, 2, 3, 4], [2, 3, 4, 1], [4, 1], [1]]
    assert len(core.calls) == 12


async def test_two_large_ones_take_turns() -> None:
    core = Core({1: 8, 2: 8})

    assert await _all(core, [1, 2]) == [True] * 2

    assert core.calls == [[1, 2], [2, 1], [1, 2], [2]]


async def test_a_crowd_is_named_to_the_core_a_part_at_a_time() -> None:
    count = 3 * LOADS_AT_ONCE
    core = Core(dict.fromkeys(range(1, count + 1), 1))

    assert await _all(core, list(range(1, count + 1))) == [True] * count

    assert core.calls[-1] == list(range(count + 1 - PIECES, count + 1))


async def test_what_is_wrong_with_one_is_said_of_that_one() -> None:
    core = Core({1: 2, 2: 1, 3: 1}, broken=2)

    first, second, third = await _all(core, [1, 2, 3])

    assert (first, third) == (True, True)
    assert isinstance(second, AdapterLoadFailed)
    assert (second.message, second.details) == (
        "the engine refuses acme/a2@1: torn",
        {"adapter": "acme/a2@1"},
    )


async def test_a_load_that_is_given_up_is_not_asked_for_again() -> None:
    core = Core({1: 400, 2: 8})
    loads = Loads(core, lambda: False)  # type: ignore[arg-type]
    given_up, other = (asyncio.create_task(loads.load(_request(key))) for key in (1, 2))
    while not core.calls:
        await asyncio.sleep(0)
    given_up.cancel()

    with pytest.raises(asyncio.CancelledError):
        await given_up
    begun = len(core.calls)
    assert await other
    assert begun < len(core.calls)
    assert all(1 not in named for named in core.calls[begun:])


@pytest.mark.parametrize(
    ("failure", "means"),
    [
        (EngineDeadError(), EngineDeadError),
        (Exception("Server shutting down"), EngineUnavailable),
        (asyncio.CancelledError(), EngineUnavailable),
    ],
    ids=["death", "refusal", "cancellation"],
)
async def test_a_call_that_fails_is_the_end_of_all_loads_and_the_next_one_asks_again(
    failure: BaseException, means: type[Exception]
) -> None:
    calls: list[int] = []

    class Failing:
        async def call(self, _: str, wanted: list[tuple[str, int, str]], __: bool) -> list[list[Any]]:
            calls.append(len(wanted))
            if len(calls) < 3:
                raise failure
            return [[True]]

    loads = Loads(Failing(), lambda: False)  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        ends = await asyncio.gather(
            *(loads.load(_request(key)) for key in range(1, LOADS_AT_ONCE + 2)), return_exceptions=True
        )
        with pytest.raises(means):
            await loads.load(_request(98))

        assert await loads.load(_request(99))
    assert {type(each) for each in ends} == {means}
    assert len({id(each) for each in ends}) == len(ends)
    assert calls == [LOADS_AT_ONCE, 1, 1]


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_whoever_cancels_all_but_those_who_wait_leaves_nobody_waiting(steps: int) -> None:
    """Also before the first call, which the task that makes them then never comes to."""
    core = Core({1: 400, 2: 1})
    loads = Loads(core, lambda: False)  # type: ignore[arg-type]
    waiting = asyncio.create_task(loads.load(_request(1)))
    await asyncio.sleep(0)
    for _ in range(steps):
        await asyncio.sleep(0)
    assert loads._turns is not None
    loads._turns.cancel()

    async with asyncio.timeout(5):
        with pytest.raises(EngineUnavailable, match="acme/a1@1"):
            await waiting
        assert await loads.load(_request(2))


@pytest.mark.parametrize("taken", [True, False])
async def test_the_core_hears_that_nobody_waits_and_says_whether_it_took_the_adapter(taken: bool) -> None:
    idle: list[bool] = []

    class Answering:
        async def call(self, _: str, __: list[tuple[str, int, str]], nobody_waits: bool) -> list[list[Any]]:
            idle.append(nobody_waits)
            return [[taken]]

    loads = Loads(Answering(), lambda: True)  # type: ignore[arg-type]

    assert await loads.load(_request(1)) is taken
    assert await loads.load(_request(2)) is taken
    assert idle == [True, True]


async def test_a_load_is_done_when_every_worker_has_done_it() -> None:
    answers: list[list[list[Any]]] = [[[True, None], [None]], [[True, True], [True, None]], [[True], [True]]]
    calls: list[list[int]] = []

    class OfTwo:
        async def call(self, _: str, wanted: list[tuple[str, int, str]], __: bool) -> list[list[Any]]:
            calls.append([key for _, key, _ in wanted])
            return answers[len(calls) - 1]

    assert await _all(OfTwo(), [1, 2]) == [True, True]
    assert calls == [[1, 2], [1, 2], [2]]
