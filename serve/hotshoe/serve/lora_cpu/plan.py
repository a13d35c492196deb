"""Which rows of a step belong to which slot, decided once per step and read by every layer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]

LONG_RUN = 24
"""Rows from which on one product of matrices is faster than the kernel; measured at rank 16, hidden 576."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive rows, `start` to `stop`, that use one slot."""

    slot: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Scattered:
    """Rows for the kernel, those of one slot together.

    slots: each once. rows: row numbers. starts: where each slot's rows begin in `rows`, and the end.
    """

    slots: tuple[int, ...]
    rows: Ints
    starts: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The rows of one step that have an adapter; rows without one are nowhere, so nothing is added to them.

    runs: all of them. long: the runs of LONG_RUN rows or more. scattered: the rows of the others, None
    where there are none.
    """

    runs: tuple[Run, ...]
    long: tuple[Run, ...]
    scattered: Scattered | None


NOTHING = Plan(runs=(), long=(), scattered=None)


def make_plan(adapter_ids: Sequence[int], slot_of: Mapping[int, int]) -> Plan:
    """Sort a step's rows by slot.

    adapter_ids: per row, the adapter's id or 0 for none. slot_of: id -> slot of every active adapter.
    A row whose id has no slot is an error (KeyError): the base must never answer for it in silence.
    """
    runs: list[Run] = []
    start = 0
    for adapter_id, rows in itertools.groupby(adapter_ids):
        stop = start + sum(1 for _ in rows)
        if adapter_id > 0:
            runs.append(Run(slot_of[adapter_id], start, stop))
        start = stop
    long = tuple(run for run in runs if run.stop - run.start >= LONG_RUN)
    short = [run for run in runs if run.stop - run.start < LONG_RUN]
    return Plan(tuple(runs), long, _scattered(short)) if runs else NOTHING


def _scattered(runs: Sequence[Run]) -> Scattered | None:
    rows_of: dict[int, list[int]] = {}
    for run in runs:
        rows_of.setdefault(run.slot, []).extend(range(run.start, run.stop))
    if not rows_of:
        return None
    return Scattered(
        slots=tuple(rows_of),
        rows=np.array([row for rows in rows_of.values() for row in rows], dtype=np.int64),
        starts=np.cumsum([0, *(len(rows) for rows in rows_of.values())], dtype=np.int64),
    )
