"""The LoRA operators: y += (x A^T) B^T, each row with its own adapter or with none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase

from hotshoe.serve.lora_cpu.plan import NOTHING, Plan, make_plan
from hotshoe.serve.lora_cpu.weights import LayerSlots, LayerWeights, stacked_view


class SegmentedPunica(PunicaWrapperBase):  # type: ignore[misc]  # vLLM ships no types that mypy follows
    """vLLM's interface to LoRA operators, on one plan per step instead of one weight copy per token."""

    def __init__(
        self, max_num_batched_tokens: int, max_batches: int, device: torch.device | str, **kwargs: Any
    ) -> None:
        super().__init__(max_num_batched_tokens, max_batches, device)
        self._tokens: Plan = NOTHING
        self._answers: Plan = NOTHING

    def update_metadata(
        self,
        mapping: Any,
        lora_index_to_id: list[int | None],
        max_loras: int,
        vocab_size: int,
        **kwargs: Any,
    ) -> None:
        """Plan the step: `mapping` names the adapter of each token and of each sampled position."""
        super().update_metadata(mapping, lora_index_to_id, max_loras, vocab_size, **kwargs)
        slot_of = {adapter_id: slot for slot, adapter_id in enumerate(lora_index_to_id) if adapter_id}
        self._tokens = make_plan(mapping.index_mapping, slot_of)
        self._answers = make_plan(mapping.prompt_mapping, slot_of)

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
        if self._tokens.empty:
            return
        if isinstance(lora_a_stacked, LayerSlots):
            slots = lora_a_stacked.slots
            add(
                self._tokens,
                y,
                x,
                [None if s is None else slots[s] for s in self._tokens.slots],
                output_slices,
            )
            return
        for y_slice, a, b in zip(
            y.split_with_sizes(output_slices, -1), lora_a_stacked, lora_b_stacked, strict=True
        ):
            add(self._tokens, y_slice, x, _views(self._tokens, a, b, y_slice.shape[-1]), (y_slice.shape[-1],))

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        """y [answers, vocabulary] += the adapters' part for x [answers, hidden], in place."""
        width = min(y.shape[-1], lora_b_stacked.shape[2])
        views = _views(self._answers, lora_a_stacked, lora_b_stacked, width)
        add(self._answers, y[:, :width], x, views, (width,))

    def add_lora_embedding(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """y [tokens, hidden] += x [tokens, rank] B^T; x is what vLLM looked up in each slot's A."""
        rank = lora_b_stacked.shape[-1]
        identity = torch.eye(rank, dtype=x.dtype).expand(lora_b_stacked.shape[0], 1, rank, rank)
        add(self._tokens, y, x, _views(self._tokens, identity, lora_b_stacked, y.shape[-1]), (y.shape[-1],))

    def add_shrink(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("only vLLM's fully sharded LoRA layers call this; CPUs don't use them")

    def add_expand(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("only vLLM's fully sharded LoRA layers call this; CPUs don't use them")

    def apply_lora_full_linear(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("a full replacement of a classifier head is not served")


def add(
    plan: Plan,
    y: torch.Tensor,
    x: torch.Tensor,
    weights: Sequence[LayerWeights | None],
    widths: Sequence[int],
) -> None:
    """y [rows, sum of widths] += x [rows, inputs] through each segment's weights, in place.

    weights: per segment of the plan; None adds nothing to its rows.
    """
    if not any(weights):
        return
    gathered, target = x, y
    if plan.rows is not None:
        gathered, target = x.index_select(0, plan.rows), y.index_select(0, plan.rows)
    # Cut once into views of every (slice, segment): a view costs as much as a small product.
    pieces = [part.split_with_sizes(plan.sizes) for part in target.split_with_sizes(widths, -1)]
    for index, (rows, layer) in enumerate(zip(gathered.split_with_sizes(plan.sizes), weights, strict=True)):
        if layer is None:
            continue
        hidden = torch.mm(rows, layer.a)
        for part, (which, b) in zip(hidden.split_with_sizes(layer.ranks, -1), layer.parts, strict=True):
            pieces[which][index].addmm_(part, b)
    if plan.rows is not None:
        y.index_copy_(0, plan.rows, target)


def _views(plan: Plan, a: torch.Tensor, b: torch.Tensor, width: int) -> list[LayerWeights | None]:
    return [None if slot is None else stacked_view(a, b, slot, width) for slot in plan.slots]
