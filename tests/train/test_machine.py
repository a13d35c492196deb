"""What a run computes with is chosen for the machine at hand, by what it has and by trial."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotshoe.train.machine import detect


@pytest.fixture(autouse=True)
def threads_as_they_were() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_threads_are_no_more_than_cores_unless_so_many_are_asked_for() -> None:
    import torch

    found = detect()
    assert 1 <= found.threads <= len(os.sched_getaffinity(0))
    assert torch.get_num_threads() == found.threads
    assert detect(threads=3).threads == torch.get_num_threads() == 3


def test_bfloat16_is_for_machines_that_have_it_and_runs_that_need_no_more() -> None:
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    if not torch.cuda.is_available() and {"amx_bf16", "avx512_bf16"}.isdisjoint(flags):
        assert detect(threads=1).dtype == "float32"
    assert detect(threads=1, exact=True).dtype == "float32"
