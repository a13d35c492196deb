"""The LoRA operators: y += (x A^T) B^T, each row with its own adapter or with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase

from hotshoe.serve.lora_cpu.kernel import add_rows
from hotshoe.serve.lora_cpu.plan import NOTHING, Plan, Scattered, make_plan
from hotshoe.serve.lora_cpu.weights import LayerSlots, LayerWeights, view


class SegmentedPunica(PunicaWrapperBase):  # type: ignore[misc]  # vLLM ships no types that mypy follows
    """vLLM's interface to LoRA operators, on one plan per step instead of one weight copy per token."""

    def __init__(
        self, max_num_batched_tokens: int, max_batches: int, device: torch.device | str, **kwargs: Any
    ) -> None:
        super().__init__(max_num_batched_tokens, max_batches, device)
        self._plan: Plan = NOTHING

    def update_metadata(
        self,
        mapping: Any,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **kwargs: Any,
    ) -> None:
        """Plan the step: `mapping` names the adapter of each token.

        What vLLM's own works out here, in a dozen tensors, only layers read that a server never wraps.
        """
        slot_of = {adapter_id: slot for slot, adapter_id in enumerate(lora_index_to_id) if adapter_id}
        self._plan = make_plan(mapping.index_mapping, slot_of)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *,
        buffer: tuple[torch.Tensor, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """y [tokens, sum of output_slices] += the adapters' part for x [tokens, inputs], in place."""
        plan = self._plan
        if not isinstance(lora_a_stacked, LayerSlots):
            pieces = y.split_with_sizes(output_slices, -1)
            for piece, a, b in zip(pieces, lora_a_stacked, lora_b_stacked, strict=True):
                _add_stacked(plan, piece, x, a, b)
            return
        runs = plan.long
        if plan.scattered is not None:
            if _kernel_takes(y) and _kernel_takes(x):
                add_scattered(plan.scattered, y, x, lora_a_stacked)
            else:
                runs = plan.runs
        for run in runs:
            weights = lora_a_stacked.slots[run.slot]
            if weights is not None:
                add_run(y[run.start : run.stop], x[run.start : run.stop], weights, output_slices)

    def add_lora_logits(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("the head is not among SERVED_TARGETS, so it is never wrapped")

    def add_lora_embedding(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("embeddings are not among SERVED_TARGETS, so they are never wrapped")

    def add_shrink(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("only vLLM's fully sharded LoRA layers call this; CPUs don't use them")

    def add_expand(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("only vLLM's fully sharded LoRA layers call this; CPUs don't use them")

    def apply_lora_full_linear(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("a full replacement of a classifier head is not served")


def add_run(y: torch.Tensor, x: torch.Tensor, weights: LayerWeights, widths: Sequence[int]) -> None:
    """y [rows, sum of widths] += x [rows, inputs] through one adapter, in place."""
    hidden = torch.mm(x, weights.a.t())
    pieces = y.split_with_sizes(widths, -1)
    parts = hidden.split_with_sizes(weights.ranks, -1)
    for part, (which, b) in zip(parts, weights.parts, strict=True):
        pieces[which].addmm_(part, b)


def add_scattered(scattered: Scattered, y: torch.Tensor, x: torch.Tensor, slots: LayerSlots) -> None:
    """The same for rows of any adapters in any order, both float32 and contiguous."""
    found = slots.addresses(scattered)
    if found is not None:
        add_rows(
            y.numpy(), x.numpy(), scattered.rows, scattered.starts, found.a, found.b, found.ranks, found.edges
        )


def _add_stacked(plan: Plan, y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> None:
    for run in plan.runs:
        add_run(y[run.start : run.stop], x[run.start : run.stop], view(a, b, run.slot), (y.shape[-1],))


def _kernel_takes(tensor: torch.Tensor) -> bool:
    return tensor.dtype is torch.float32 and tensor.is_contiguous()
