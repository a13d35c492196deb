"""Which rows of a step belong to which slot, decided once per step and read by every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows `start` to `stop` (of the gathered rows) that all use one slot."""

    slot: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of one step that have an adapter, in order of their slots.

    rows: their indices in the step's batch, or None where they stand there in this order already, from
    `first` on. segments: contiguous, one per slot, over the rows in this order. Rows without an adapter
    are in no segment, so nothing is ever added to them.
    """

    segments: tuple[Segment, ...]
    first: int
    count: int
    rows: torch.Tensor | None

    @property
    def empty(self) -> bool:
        return self.count == 0


NOTHING = Plan(segments=(), first=0, count=0, rows=None)


def make_plan(adapter_ids: Sequence[int], slot_of: Mapping[int, int]) -> Plan:
    """Group a step's rows by slot.

    adapter_ids: per row, the adapter's id or 0 for none. slot_of: id -> slot of every active adapter.
    A row whose id has no slot is an error (KeyError): it must never be answered by the base in silence.
    """
    by_slot: dict[int, list[int]] = {}
    for row, adapter_id in enumerate(adapter_ids):
        if adapter_id > 0:
            by_slot.setdefault(slot_of[adapter_id], []).append(row)
    if not by_slot:
        return NOTHING
    segments: list[Segment] = []
    rows: list[int] = []
    for slot, members in sorted(by_slot.items(), key=lambda item: item[1][0]):
        segments.append(Segment(slot, len(rows), len(rows) + len(members)))
        rows.extend(members)
    contiguous = rows[-1] - rows[0] == len(rows) - 1 and rows == sorted(rows)
    return Plan(
        segments=tuple(segments),
        first=rows[0],
        count=len(rows),
        rows=None if contiguous else torch.tensor(rows, dtype=torch.long),
    )
