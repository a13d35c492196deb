"""Layers for which vLLM's CPU build has one compiled operator, and takes a dozen of torch's instead.

It counts on a compiler to fuse those, and there is none where a CPU serves adapters. Its own switch for
compiled operators (`custom_ops`) would use them unasked: where a model hands over queries by the head they
turn most rows by nothing, and an operator for SiLU takes four times as long as torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding

_NUMBERS_AT_ONCE = 16
"""The operator for norms takes rows of a multiple of these."""

_norm: Any = RMSNorm.forward_native
_rotate: Any = RotaryEmbedding.forward_native


def use_compiled_operators() -> None:
    """In layers that compute as these classes do; those that have a way of their own keep it."""
    RMSNorm.forward_native = _compiled_norm
    RotaryEmbedding.forward_native = _compiled_rotate


def _compiled_norm(layer: Any, x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
    """x [..., hidden] over its root mean square, times the weight; with a residual of the same shape, that
    of their sum, and the sum, both in place."""
    weight, epsilon = layer.weight, layer.variance_epsilon
    if layer.variance_size_override is not None or not _norm_takes(x, weight):
        return _norm(layer, x, residual)
    if residual is None:
        normalized = torch.empty(x.shape, dtype=x.dtype)
        torch.ops._C.rms_norm(normalized, x.contiguous(), weight, epsilon)
        return normalized
    if residual.dtype != x.dtype or not x.is_contiguous() or not residual.is_contiguous():
        return _norm(layer, x, residual)
    torch.ops._C.fused_add_rms_norm(x, residual, weight, epsilon)
    return x, residual


def _norm_takes(x: torch.Tensor, weight: torch.Tensor) -> bool:
    hidden = x.shape[-1]
    return weight.dtype == x.dtype and weight.shape == (hidden,) and not hidden % _NUMBERS_AT_ONCE


def _compiled_rotate(
    layer: Any, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Queries and keys [tokens, heads * head size], turned by their positions [tokens], in place."""
    cache = layer._match_cos_sin_cache_dtype(query)
    if positions.dim() != 1 or cache.shape[-1] != layer.rotary_dim or not _rotation_takes(query, key):
        return _rotate(layer, positions, query, key)  # type: ignore[no-any-return]
    torch.ops._C.rotary_embedding(positions, query, key, layer.head_size, cache, layer.is_neox_style)
    return query, key


def _rotation_takes(query: torch.Tensor, key: torch.Tensor | None) -> bool:
    rows = [query] if key is None else [query, key]
    return all(each.dim() == 2 and each.stride(1) == 1 and each.dtype == query.dtype for each in rows)
