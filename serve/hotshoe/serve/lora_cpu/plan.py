"""Which rows of a step belong to which slot, decided once per step and read by every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]

LONG_RUN = 24
"""Rows from which on one product of matrices is faster than the kernel; measured at rank 16, hidden 576."""


class Run(NamedTuple):
    """Consecutive rows, `start` to `stop`, that use one slot."""

    slot: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False)
class Scattered:
    """Rows for the kernel, those of one slot together.

    slots: each once. rows: row numbers. starts: where each slot's rows begin in `rows`, and the end.
    """

    slots: Ints
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
    if not any(adapter_ids):
        return NOTHING
    # In arrays: everybody's step waits for this, and a loop over its rows takes several times as long.
    ids = np.array(adapter_ids)
    starts = np.flatnonzero(np.concatenate(([True], ids[1:] != ids[:-1])))
    stops = np.append(starts[1:], len(ids))
    taken = ids[starts] > 0
    starts, stops = starts[taken], stops[taken]
    slots = [slot_of[each] for each in ids[starts].tolist()]
    runs = tuple(map(Run, slots, starts.tolist(), stops.tolist()))
    lengths = stops - starts
    short = lengths < LONG_RUN
    if not short.any():
        return Plan(runs, runs, None)
    long = () if short.all() else tuple(run for run in runs if run.stop - run.start >= LONG_RUN)
    return Plan(runs, long, _scattered(np.array(slots)[short], starts[short], lengths[short]))


def _scattered(slots: Ints, starts: Ints, lengths: Ints) -> Scattered:
    """Of runs: their slots, where they start and how long they are."""
    order = np.argsort(slots, kind="stable")
    slots, starts, lengths = slots[order], starts[order], lengths[order]
    ends = np.cumsum(lengths)
    rows = np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
    first = np.flatnonzero(np.concatenate(([True], slots[1:] != slots[:-1])))
    return Scattered(slots[first], rows, np.append((ends - lengths)[first], ends[-1]))
