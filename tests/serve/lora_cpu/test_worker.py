"""What the worker does of the loads that it is asked to go on with, and what it says of each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.lora.request import LoRARequest

from hotshoe.serve.lora_cpu.loading import SlicingWorkerManager
from hotshoe.serve.lora_cpu.worker import WorkerExtension

ENDLESS, PAST = 3600.0, -1.0


class Manager(SlicingWorkerManager):
    """Reads adapters of so many pieces, by their paths' names; "torn" and "odd" fail at the first.

    slice_seconds: how long each slice is.
    """

    def __init__(self, slice_seconds: float) -> None:
        self._under_way, self._prepared, self._sliced_at = {}, {}, 0.0
        self.slice_seconds = slice_seconds
        self.read: list[str] = []

    def slice_ends(self, *, idle: bool) -> float:
        return time.monotonic() + self.slice_seconds

    def _has(self, adapter_id: int) -> bool:
        return False

    def _load_in_pieces(self, request: LoRARequest) -> Iterator[None]:
        kind = Path(request.lora_path).name
        if kind == "torn":
            raise ValueError("q_proj holds NaN")
        if kind == "odd":
            raise KeyError("q_proj")
        for _ in range(int(kind)):
            self.read.append(request.lora_name)
            yield
        self._prepared[request.lora_int_id] = object()


def _worker(manager: Any) -> tuple[Any, list[str]]:
    """A worker, and the names of what it added."""
    worker, added = WorkerExtension(), []
    worker.model_runner = SimpleNamespace(lora_manager=manager)

    def add_lora(request: LoRARequest) -> bool:
        added.append(request.lora_name)
        return True

    worker.add_lora = add_lora
    return worker, added


def _wanted(*kinds: str) -> list[tuple[str, int, str]]:
    return [(f"a{number}", number, f"/there/{kind}") for number, kind in enumerate(kinds, 1)]


def test_as_many_are_loaded_as_a_slice_is_long_enough_for() -> None:
    worker, added = _worker(Manager(ENDLESS))

    assert worker.hotshoe_add(_wanted("2", "1", "3"), False) == [True, True, True]
    assert added == ["a1", "a2", "a3"]


def test_a_slice_that_is_over_is_over_for_all_and_what_was_read_is_kept() -> None:
    manager = Manager(PAST)
    worker, added = _worker(manager)

    assert worker.hotshoe_add(_wanted("2", "1"), False) == [None]
    assert (manager.read, added) == (["a1"], [])
    manager.slice_seconds = ENDLESS
    assert worker.hotshoe_add(_wanted("2", "1"), False) == [True, True]
    assert manager.read == ["a1", "a1", "a2"]


@pytest.mark.parametrize(
    ("kind", "says"), [("torn", "q_proj holds NaN"), ("odd", "KeyError: 'q_proj'")], ids=["told", "untold"]
)
def test_what_is_wrong_with_one_is_said_of_it_and_the_others_are_loaded(kind: str, says: str) -> None:
    worker, added = _worker(Manager(ENDLESS))

    assert worker.hotshoe_add(_wanted("1", kind, "1"), False) == [True, says, True]
    assert added == ["a1", "a3"]


def test_a_manager_without_slices_is_asked_for_one_whole_adapter() -> None:
    worker, added = _worker(object())

    assert worker.hotshoe_add(_wanted("1", "1"), False) == [True]
    assert added == ["a1"]
