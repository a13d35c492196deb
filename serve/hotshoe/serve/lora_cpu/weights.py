"""An adapter's weights for one layer, laid out for the operators, and the slots that point to them.

On a CPU the weights of a loaded adapter are where the operators can read them. So a slot here is a
reference: activating an adapter copies nothing, and a slot costs no memory until something is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One adapter in one layer, which may be several PEFT modules fused (q, k and v; gate and up).

    a: [inputs, sum of ranks], the fused modules beside each other. parts: for each module present, in
    the same order, its output slice's index and B as [rank, outputs], the scaling in it.
    """

    a: torch.Tensor
    ranks: tuple[int, ...]
    parts: tuple[tuple[int, torch.Tensor], ...]


def pack(a: Sequence[torch.Tensor | None], b: Sequence[torch.Tensor | None]) -> LayerWeights | None:
    """Lay out A [rank, inputs] and B [outputs, rank] of each output slice; None where one is absent."""
    present = [
        (index, each_a, each_b)
        for index, (each_a, each_b) in enumerate(zip(a, b, strict=True))
        if each_a is not None and each_b is not None
    ]
    if not present:
        return None
    return LayerWeights(
        a=torch.cat([each_a for _, each_a, _ in present]).t().contiguous(),
        ranks=tuple(each_a.shape[0] for _, each_a, _ in present),
        parts=tuple((index, each_b.t().contiguous()) for index, _, each_b in present),
    )


class LayerSlots(tuple[torch.Tensor, ...]):
    """A layer's slots, in the place of the A tensors that vLLM stacks and hands to the operators.

    It still is that tuple, because vLLM reads its shapes; but no memory is behind the tensors.
    """

    slots: list[LayerWeights | None]

    @classmethod
    def take_over(cls, layer: Any, count: int) -> None:
        """Give a vLLM linear layer its slots: `set_lora` and `reset_lora` then move references only."""
        made = cls(_shape_only(each, count) for each in layer.lora_a_stacked)
        made.slots = [None] * count
        layer.lora_a_stacked = made
        layer.lora_b_stacked = tuple(_shape_only(each, count) for each in layer.lora_b_stacked)
        layer.set_lora = made.set
        layer.reset_lora = made.reset

    def set(self, slot: int, weights: LayerWeights | None, _: Any = None) -> None:
        self.slots[slot] = weights

    def reset(self, slot: int) -> None:
        self.slots[slot] = None


def stacked_view(a: torch.Tensor, b: torch.Tensor, slot: int, width: int) -> LayerWeights:
    """The weights of a slot that vLLM filled itself.

    a: [slots, 1, rank, inputs]. b: [slots, 1, outputs, rank], of which the first `width` outputs count.
    """
    return LayerWeights(a=a[slot, 0].t(), ranks=(a.shape[2],), parts=((0, b[slot, 0, :width].t()),))


def _shape_only(stacked: torch.Tensor, count: int) -> torch.Tensor:
    return torch.zeros((), dtype=stacked.dtype).expand(count, *stacked.shape[1:])
