"""The LoRA operators: y += (x A^T) B^T, row by row with the row's own adapter.

Weights come as vLLM stacks them: A is [slots, 1, rank, inputs], B is [slots, 1, outputs, rank], both
zero beyond the adapter's own rank, with the scaling already in B.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase

from hotshoe.serve.lora_cpu.plan import NOTHING, Plan, make_plan


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
        _add(self._tokens, y, x, lora_a_stacked, lora_b_stacked, scale, output_slices)

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
        _add(self._answers, y, x, (lora_a_stacked,), (lora_b_stacked,), scale, (width,))

    def add_lora_embedding(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        add_inputs: bool = True,
        **kwargs: Any,
    ) -> None:
        """y [tokens, hidden] += x [tokens, rank] B^T; x is what vLLM looked up in each slot's A."""
        _expand(self._tokens, y, x, lora_b_stacked)

    def add_shrink(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("only vLLM's fully sharded LoRA layers call this; CPUs don't use them")

    def add_expand(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("only vLLM's fully sharded LoRA layers call this; CPUs don't use them")

    def apply_lora_full_linear(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("a full replacement of a classifier head is not served")


def _add(
    plan: Plan,
    y: torch.Tensor,
    x: torch.Tensor,
    a: Sequence[torch.Tensor],
    b: Sequence[torch.Tensor],
    scale: float,
    widths: Sequence[int],
) -> None:
    if plan.empty:
        return
    gathered = _gather(plan, x.view(-1, x.shape[-1]))
    outputs = y.view(-1, y.shape[-1])
    target = outputs[plan.first : plan.first + plan.count] if plan.rows is None else _gather(plan, outputs)
    for segment in plan.segments:
        rows = gathered[segment.start : segment.stop]
        left = 0
        for a_slice, b_slice, width in zip(a, b, widths, strict=True):
            hidden = rows @ a_slice[segment.slot, 0].t()
            target[segment.start : segment.stop, left : left + width].addmm_(
                hidden, b_slice[segment.slot, 0, :width].t(), alpha=scale
            )
            left += width
    if plan.rows is not None:
        outputs.index_copy_(0, plan.rows, target)


def _expand(plan: Plan, y: torch.Tensor, x: torch.Tensor, b: torch.Tensor) -> None:
    if plan.empty:
        return
    gathered = _gather(plan, x.view(-1, x.shape[-1]))
    outputs = y.view(-1, y.shape[-1])
    target = outputs[plan.first : plan.first + plan.count] if plan.rows is None else _gather(plan, outputs)
    for segment in plan.segments:
        target[segment.start : segment.stop].addmm_(
            gathered[segment.start : segment.stop], b[segment.slot, 0].t()
        )
    if plan.rows is not None:
        outputs.index_copy_(0, plan.rows, target)


def _gather(plan: Plan, x: torch.Tensor) -> torch.Tensor:
    if plan.rows is None:
        return x[plan.first : plan.first + plan.count]
    return x.index_select(0, plan.rows)
