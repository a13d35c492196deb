"""Few requests enter the engine as they come; those of a crowd together, and after a bounded time."""

from __future__ import annotations

import asyncio
import time

from hotshoe.serve.gathering import Gathering

LONG = 3600.0


async def test_few_go_straight_in() -> None:
    gathering = Gathering(few=4, quiet_seconds=LONG, longest_seconds=LONG)
    await gathering.join(3)


async def test_a_crowd_enters_together_once_nobody_else_comes() -> None:
    gathering = Gathering(few=0, quiet_seconds=0.05, longest_seconds=LONG)
    entered: list[float] = []

    async def enter() -> None:
        await gathering.join(1)
        entered.append(time.monotonic())

    tasks = []
    for _ in range(5):
        tasks.append(asyncio.create_task(enter()))
        await asyncio.sleep(0.02)  # Each within the quiet that the one before it waits for.
    last = time.monotonic()
    assert not entered
    await asyncio.gather(*tasks)
    assert min(entered) >= last + 0.02
    assert len(entered) == 5


async def test_a_crowd_that_goes_on_coming_is_let_in_all_the_same() -> None:
    gathering = Gathering(few=0, quiet_seconds=LONG, longest_seconds=0.05)
    began = time.monotonic()
    waiting = asyncio.create_task(gathering.join(1))
    await asyncio.sleep(0)
    await gathering.join(1)
    await waiting
    assert time.monotonic() - began >= 0.05


async def test_the_next_crowd_waits_its_own_time() -> None:
    gathering = Gathering(few=0, quiet_seconds=0.02, longest_seconds=0.1)
    for _ in range(3):
        began = time.monotonic()
        await gathering.join(1)
        assert time.monotonic() - began >= 0.019


async def test_who_gives_up_holds_up_nobody() -> None:
    gathering = Gathering(few=0, quiet_seconds=0.02, longest_seconds=0.1)
    gone = asyncio.create_task(gathering.join(1))
    stays = asyncio.create_task(gathering.join(1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert gone.cancelled()
    await stays
