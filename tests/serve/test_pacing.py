"""Few streams send each token, many bundle theirs; an end is never held back."""

from __future__ import annotations

import asyncio
import contextlib
import time

from hotshoe.serve.pacing import LONGEST_SECONDS, Pace


def crowd(pace: Pace, streams: int) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    for _ in range(streams):
        stack.enter_context(pace.one_more())
    return stack


def test_few_streams_do_not_wait() -> None:
    pace = Pace(1000)
    with crowd(pace, 4):
        assert pace.seconds == 0


def test_the_time_between_messages_grows_with_the_streams_up_to_a_bound() -> None:
    pace = Pace(1000)
    with crowd(pace, 64):
        assert pace.seconds == 0.064
    with crowd(pace, 4000):
        assert pace.seconds == LONGEST_SECONDS


def test_streams_that_ended_no_longer_count() -> None:
    pace = Pace(1000)
    with crowd(pace, 64):
        pass
    assert pace.seconds == 0


async def test_a_crowded_stream_waits_its_time() -> None:
    pace = Pace(1000)
    with crowd(pace, 40):
        began = time.monotonic()
        await pace.rest(lambda: False)
        assert time.monotonic() - began >= 0.035


async def test_an_answer_that_has_ended_does_not_wait() -> None:
    pace = Pace(1, longest_seconds=3600)
    with crowd(pace, 4000):
        await pace.rest(lambda: True)


async def test_an_answer_that_ends_meanwhile_is_let_go_before_its_time() -> None:
    pace = Pace(1, longest_seconds=3600)
    over: list[bool] = []
    with crowd(pace, 4000):
        waiting = asyncio.create_task(pace.rest(lambda: bool(over)))
        await asyncio.sleep(0)
        over.append(True)
        await waiting


async def test_a_cancelled_rest_leaves_nothing_behind() -> None:
    pace = Pace(1000)
    with crowd(pace, 100):
        waiting = asyncio.create_task(pace.rest(lambda: False))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert not pace._resting
