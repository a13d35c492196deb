"""Layers for which vLLM's CPU build has one compiled operator, and takes a dozen of torch's instead.

It counts on a compiler to fuse those, and there is none where a CPU serves adapters. Its own switch for
compiled operators (`custom_ops`) would use them unasked: queries that a model hands over by the head are
taken for rows, most of which stay unturned, and one for SiLU takes four times as long as torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

_NUMBERS_AT_ONCE = 16
"""The operator for norms takes rows of a multiple of these."""

_vllm_norm: Any = RMSNorm.forward_native
_vllm_rotate: Any = RotaryEmbedding.forward_native


def use_compiled_operators() -> None:
    """Compute norms and rotations by them, in layers that do as these classes; others keep their own way."""
    RMSNorm.forward_native = _compiled_norm
    RotaryEmbedding.forward_native = _compiled_rotate


def _compiled_norm(layer: Any, x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
    """x [..., hidden] over its root mean square, times the weight; with a residual of the same shape, that
    of their sum, and the sum. What it is given may be overwritten."""
    weight, epsilon = layer.weight, layer.variance_epsilon
    if layer.variance_size_override is not None or not _norm_takes(x, weight):
        return _vllm_norm(layer, x, residual)
    if residual is None:
        normalized = torch.empty(x.shape, dtype=x.dtype)
        torch.ops._C.rms_norm(normalized, x.contiguous(), weight, epsilon)
        return normalized
    alike = residual.shape == x.shape and residual.dtype == x.dtype
    if not alike or not x.is_contiguous() or not residual.is_contiguous():
        return _vllm_norm(layer, x, residual)
    torch.ops._C.fused_add_rms_norm(x, residual, weight, epsilon)
    return x, residual


def _norm_takes(x: torch.Tensor, weight: torch.Tensor) -> bool:
    hidden = x.shape[-1]
    return weight.dtype == x.dtype and weight.shape == (hidden,) and not hidden % _NUMBERS_AT_ONCE


def _compiled_rotate(
    layer: Any, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Queries and keys [tokens, heads * head size], turned by their positions [tokens].

    What it is given may be overwritten. A position is less than the length of the cache, which is not looked
    at: vLLM bounds an answer's context by the same number.
    """
    cache = layer._match_cos_sin_cache_dtype(query)
    if cache.shape[-1] != layer.rotary_dim or not _rotation_takes(positions, query, key):
        return _vllm_rotate(layer, positions, query, key)  # type: ignore[no-any-return]
    torch.ops._C.rotary_embedding(positions, query, key, layer.head_size, cache, layer.is_neox_style)
    return query, key


def _rotation_takes(positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor | None) -> bool:
    rows = [query] if key is None else [query, key]
    counted = positions.dim() == 1 and positions.is_contiguous() and positions.dtype is torch.int64
    return counted and all(
        each.dim() == 2 and len(each) == len(positions) and each.stride(1) == 1 and each.dtype == query.dtype
        for each in rows
    )
