"""Whose turn it is while several adapters load, seen from a core that says what it did of each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from vllm.lora.request import LoRARequest
from vllm.v1.engine.exceptions import EngineDeadError

from hotshoe.adapter.errors import AdapterLoadFailed
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

    assert await other
    assert (await asyncio.gather(given_up, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    assert 1 not in core.calls[-1]
    assert core.left[1] >= 392


async def test_a_core_that_dies_fails_all_and_the_next_load_asks_again() -> None:
    class Dead:
        calls = 0

        async def call(self, *_: Any) -> list[list[Any]]:
            self.calls += 1
            raise EngineDeadError

    core = Dead()
    loads = Loads(core, lambda: False)  # type: ignore[arg-type]
    ends = await asyncio.gather(
        *(loads.load(_request(key)) for key in range(1, 2 * LOADS_AT_ONCE + 1)), return_exceptions=True
    )

    assert {type(each) for each in ends} == {EngineDeadError}
    with pytest.raises(EngineDeadError):
        await loads.load(_request(99))
    assert core.calls == 3


async def test_a_load_is_done_when_every_worker_has_done_it() -> None:
    answers: list[list[list[Any]]] = [[[True, None], [None]], [[True, True], [True, None]], [[True], [True]]]
    calls: list[list[int]] = []

    class OfTwo:
        async def call(self, _: str, wanted: list[tuple[str, int, str]], __: bool) -> list[list[Any]]:
            calls.append([key for _, key, _ in wanted])
            return answers[len(calls) - 1]

    assert await _all(OfTwo(), [1, 2]) == [True, True]
    assert calls == [[1, 2], [1, 2], [2]]
