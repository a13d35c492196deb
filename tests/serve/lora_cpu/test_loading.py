"""How much of a load is done between two of the engine's steps."""

from __future__ import annotations

import pytest

from hotshoe.serve.lora_cpu.loading import (
    IDLE_SLICE_SECONDS,
    LONGEST_SLICE_SECONDS,
    SLICE_SECONDS,
    slice_seconds,
)


@pytest.mark.parametrize(
    ("step", "seconds"),
    [(0.0, SLICE_SECONDS), (0.01, SLICE_SECONDS), (0.2, 0.01), (3600.0, LONGEST_SLICE_SECONDS)],
    ids=["the first", "a short step", "a long step", "a stall"],
)
def test_a_slice_is_a_small_part_of_a_step(step: float, seconds: float) -> None:
    assert slice_seconds(step, idle=False) == pytest.approx(seconds)


def test_an_engine_that_nobody_waits_for_loads_in_few_slices() -> None:
    assert slice_seconds(0.0, idle=True) == IDLE_SLICE_SECONDS
