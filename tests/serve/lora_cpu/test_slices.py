"""How much of loading is done between two of the engine's steps."""

from __future__ import annotations

import pytest

from hotshoe.serve.lora_cpu.slices import (
    IDLE_SLICE_SECONDS,
    LONGEST_SLICE_SECONDS,
    PAUSE_SECONDS,
    SLICE_SECONDS,
    Slices,
    slice_seconds,
)

STEP = 0.2


@pytest.mark.parametrize(
    ("step", "seconds"),
    [(0.0, SLICE_SECONDS), (0.01, SLICE_SECONDS), (0.2, 0.01), (3600.0, LONGEST_SLICE_SECONDS)],
    ids=["the first", "a short step", "a long step", "a stall"],
)
def test_a_slice_is_a_small_part_of_a_step(step: float, seconds: float) -> None:
    assert slice_seconds(step, idle=False) == pytest.approx(seconds)


def test_an_engine_that_nobody_waits_for_loads_in_few_slices() -> None:
    assert slice_seconds(0.0, idle=True) == IDLE_SLICE_SECONDS


@pytest.mark.parametrize("idle", [False, True])
def test_loads_between_the_same_two_steps_share_a_slice(idle: bool) -> None:
    slices = Slices()
    until = slices.begin(100.0, waited=False, idle=idle)
    slices.end(100.001)

    assert slices.begin(100.0015, waited=True, idle=idle) == until
    slices.end(until)

    late = until + PAUSE_SECONDS / 2
    assert slices.begin(late, waited=True, idle=idle) <= late


def test_after_a_step_there_is_a_new_slice() -> None:
    slices = Slices()
    slices.end(slices.begin(100.0, waited=False, idle=False))
    begun = 100.0 + SLICE_SECONDS + STEP

    assert slices.begin(begun, waited=True, idle=False) == pytest.approx(
        begun + slice_seconds(STEP, idle=False)
    )


def test_a_load_that_nobody_waited_for_says_nothing_about_steps() -> None:
    slices = Slices()
    slices.end(slices.begin(100.0, waited=False, idle=False))

    assert slices.begin(200.0, waited=False, idle=False) == pytest.approx(200.0 + SLICE_SECONDS)


def test_without_a_step_loading_goes_on_all_the_same() -> None:
    slices = Slices()
    until = slices.begin(100.0, waited=False, idle=False)
    slices.end(until)

    now = until + PAUSE_SECONDS
    assert slices.begin(now, waited=True, idle=False) > now
