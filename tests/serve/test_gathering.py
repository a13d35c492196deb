"""Few requests enter the engine as they come; those of a crowd together, and after a bounded time."""

from __future__ import annotations

import asyncio
import time

import pytest

from hotshoe.serve.gathering import Gathering, due

LONG = 3600.0


async def test_few_go_straight_in() -> None:
    gathering = Gathering(few=4, quiet_seconds=LONG, longest_seconds=LONG)
    await gathering.join(3)


@pytest.mark.parametrize(
    ("last_at", "expected"),
    [
        pytest.param(100.0, 105.0, id="alone"),
        pytest.param(103.0, 108.0, id="each newcomer begins the quiet anew"),
        pytest.param(146.0, 150.0, id="but not past the longest wait"),
        pytest.param(150.0, 150.0, id="which counts from the first"),
    ],
)
def test_when_a_crowd_is_let_in(last_at: float, expected: float) -> None:
    assert due(100.0, last_at, quiet=5.0, longest=50.0) == expected


async def test_a_crowd_enters_together_once_nobody_else_comes() -> None:
    gathering = Gathering(few=0, quiet_seconds=1.0, longest_seconds=LONG)
    first = asyncio.create_task(gathering.join(1))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    second = asyncio.create_task(gathering.join(1))
    await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    assert first.done()
    assert second.done()
    assert time.monotonic() - began >= 0.95


async def test_newcomers_do_not_keep_a_crowd_out_for_ever() -> None:
    gathering = Gathering(few=0, quiet_seconds=LONG, longest_seconds=0.2)
    newcomers: set[asyncio.Task[None]] = set()

    async def arriving() -> None:
        while True:
            newcomers.add(asyncio.create_task(gathering.join(1)))
            await asyncio.sleep(0.02)

    arrivals = asyncio.create_task(arriving())
    async with asyncio.timeout(30):
        await gathering.join(1)
    arrivals.cancel()
    await gathering.join(-1)
    await asyncio.gather(*newcomers)


async def test_when_few_are_left_a_newcomer_takes_those_who_wait_along() -> None:
    gathering = Gathering(few=4, quiet_seconds=LONG, longest_seconds=LONG)
    entered: list[str] = []

    async def enter(name: str, streams: int) -> None:
        await gathering.join(streams)
        entered.append(name)

    waiting = asyncio.create_task(enter("first", 4))
    await asyncio.sleep(0)
    await enter("second", 3)
    await waiting
    assert sorted(entered) == ["first", "second"]


async def test_the_next_crowd_waits_its_own_time() -> None:
    gathering = Gathering(few=0, quiet_seconds=0.02, longest_seconds=0.1)
    for _ in range(3):
        began = time.monotonic()
        await gathering.join(1)
        assert time.monotonic() - began >= 0.015


async def test_who_gives_up_holds_up_nobody() -> None:
    gathering = Gathering(few=0, quiet_seconds=0.02, longest_seconds=0.1)
    gone = asyncio.create_task(gathering.join(1))
    stays = asyncio.create_task(gathering.join(1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
    await stays
