"""Which rows of a step belong to which slot, decided once per step and read by every layer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

GATHER_BELOW_ROWS = 8
"""Mean length of a run of rows under which gathering the rows of a slot pays (benchmarks/lora_cpu)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of one step that have an adapter, cut into segments that use one slot each.

    slots, sizes: per segment, its slot (None for rows without an adapter, to which nothing is ever
    added) and its number of rows. rows: the indices of the step's rows in the order of the segments, or
    None where the segments lie in the step's own order and cover it.
    """

    slots: tuple[int | None, ...]
    sizes: tuple[int, ...]
    rows: torch.Tensor | None

    @property
    def empty(self) -> bool:
        return not self.sizes


NOTHING = Plan(slots=(), sizes=(), rows=None)


def make_plan(adapter_ids: Sequence[int], slot_of: Mapping[int, int]) -> Plan:
    """Cut a step's rows into segments.

    adapter_ids: per row, the adapter's id or 0 for none. slot_of: id -> slot of every active adapter.
    A row whose id has no slot is an error (KeyError): the base must never answer for it in silence.
    """
    runs = [(adapter_id, len(list(rows))) for adapter_id, rows in itertools.groupby(adapter_ids)]
    adapters = {adapter_id for adapter_id, _ in runs if adapter_id > 0}
    if not adapters:
        return NOTHING
    if len(runs) <= len(adapters) + 1 or len(adapter_ids) >= GATHER_BELOW_ROWS * len(runs):
        slots = tuple(slot_of[adapter_id] if adapter_id > 0 else None for adapter_id, _ in runs)
        return Plan(slots, tuple(size for _, size in runs), rows=None)
    members: dict[int, list[int]] = {}
    for row, adapter_id in enumerate(adapter_ids):
        if adapter_id > 0:
            members.setdefault(slot_of[adapter_id], []).append(row)
    return Plan(
        slots=tuple(members),
        sizes=tuple(len(rows) for rows in members.values()),
        rows=torch.tensor([row for rows in members.values() for row in rows], dtype=torch.long),
    )
