"""An adapter's weights for one layer, laid out for the operators, and the slots that point to them.

On a CPU the weights of a loaded adapter are where the operators can read them. So a slot here is a
reference: activating an adapter copies nothing, and a slot costs no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hotshoe.serve.lora_cpu.plan import Ints, Scattered


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One adapter in one layer, which may be several PEFT modules fused (q, k and v; gate and up).

    a: [sum of ranks, inputs], the modules present below each other. parts: for each of those, which
    output slice it is, and its B as [rank, outputs] with the scaling in it. where: [3, slices], for the
    kernel: each slice's addresses of A and B and its rank, 0 where there is nothing.
    """

    a: torch.Tensor
    parts: tuple[tuple[int, torch.Tensor], ...]
    where: Ints

    @property
    def ranks(self) -> list[int]:
        return [b.shape[0] for _, b in self.parts]


def pack(a: Sequence[torch.Tensor | None], b: Sequence[torch.Tensor | None]) -> LayerWeights | None:
    """Lay out A [rank, inputs] and B [outputs, rank] of each output slice; None where one is absent."""
    present = [
        (index, each_a, each_b)
        for index, (each_a, each_b) in enumerate(zip(a, b, strict=True))
        if each_a is not None and each_b is not None
    ]
    if not present:
        return None
    stacked = [each_a for _, each_a, _ in present]
    whole = (torch.cat(stacked) if len(stacked) > 1 else stacked[0]).contiguous()
    return laid_out(whole, [(index, each_b.t().contiguous()) for index, _, each_b in present], len(a))


def laid_out(a: torch.Tensor, parts: Sequence[tuple[int, torch.Tensor]], slices: int) -> LayerWeights:
    """The weights of a layer of so many output slices; for `a` and `parts` see there. Both contiguous."""
    where = np.zeros((3, slices), dtype=np.int64)
    address = a.data_ptr()
    for index, part in parts:
        where[:, index] = address, part.data_ptr(), part.shape[0]
        address += part.shape[0] * a.shape[1] * a.element_size()
    return LayerWeights(a, tuple(parts), where)


def view(a: torch.Tensor, b: torch.Tensor, slot: int) -> LayerWeights:
    """The weights of a slot that vLLM filled itself.

    a: [slots, 1, rank, inputs]. b: [slots, 1, outputs, rank].
    """
    return LayerWeights(a[slot, 0], ((0, b[slot, 0].t()),), where=_NOWHERE)


_NOWHERE = np.zeros((3, 1), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Addresses:
    """What the kernel reads of a layer in one step; see `kernel.add_rows`."""

    a: Ints
    b: Ints
    ranks: Ints
    edges: Ints


class LayerSlots(tuple[torch.Tensor, ...]):
    """A layer's slots, in the place of the A tensors that vLLM stacks and hands to the operators.

    It still is that tuple, because vLLM reads its shapes; but no memory is behind the tensors.
    """

    slots: list[LayerWeights | None]
    _where: Ints  # [3, slots, slices], see `LayerWeights`.
    _edges: Ints
    _addresses: tuple[Scattered | None, Addresses | None]

    @classmethod
    def take_over(cls, layer: Any, count: int) -> None:
        """Give a vLLM linear layer its slots: `set_lora` and `reset_lora` then move references only."""
        made = cls(_shape_only(each, count) for each in layer.lora_a_stacked)
        made.slots = [None] * count
        made._where = np.zeros((3, count, len(layer.output_slices)), dtype=np.int64)
        made._edges = np.cumsum([0, *layer.output_slices], dtype=np.int64)
        made._addresses = (None, None)
        layer.lora_a_stacked = made
        layer.lora_b_stacked = tuple(_shape_only(each, count) for each in layer.lora_b_stacked)
        layer.set_lora = made.set
        layer.reset_lora = made.reset

    def set(self, slot: int, weights: LayerWeights | None, _: Any = None) -> None:
        self.slots[slot] = weights
        self._where[:, slot] = 0 if weights is None else weights.where
        self._addresses = (None, None)

    def reset(self, slot: int) -> None:
        self.set(slot, None)

    def addresses(self, scattered: Scattered) -> Addresses | None:
        """What the kernel reads for these rows; None where no adapter of theirs touches this layer.

        Worked out once per plan, which holds for many steps.
        """
        if self._addresses[0] is not scattered:
            self._addresses = (scattered, self._look_up(scattered.slots))
        return self._addresses[1]

    def _look_up(self, slots: Ints) -> Addresses | None:
        a, b, ranks = np.take(self._where, slots, axis=1)
        return Addresses(a, b, ranks, self._edges) if ranks.any() else None


def _shape_only(stacked: torch.Tensor, count: int) -> torch.Tensor:
    return torch.zeros((), dtype=stacked.dtype).expand(count, *stacked.shape[1:])
