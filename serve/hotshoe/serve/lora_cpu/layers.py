"""Layers for which vLLM's CPU build has one compiled operator, and takes a dozen of torch's instead.

It decides that a compiler will fuse those before it learns that with LoRA on a CPU there is none.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.layers.layernorm import RMSNorm


def use_compiled_norm() -> None:
    """In the layers that are made from now on, where a configuration enables COMPILED_LAYERS."""
    RMSNorm.forward_cpu = _normalize


def _normalize(layer: Any, x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
    """x [..., hidden] over its root mean square, times the weight; with a residual [..., hidden], that of
    their sum, and the sum, both in place."""
    weight, epsilon = layer.weight, layer.variance_epsilon
    plain = layer.has_weight and layer.variance_size_override is None and weight.dtype == x.dtype
    if not plain or not x.is_contiguous() or not (residual is None or residual.is_contiguous()):
        return layer.forward_native(x, residual)
    if residual is None:
        normalized = torch.empty_like(x)
        torch.ops._C.rms_norm(normalized, x, weight, epsilon)
        return normalized
    torch.ops._C.fused_add_rms_norm(x, residual, weight, epsilon)
    return x, residual
