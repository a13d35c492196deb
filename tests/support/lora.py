"""Small PEFT folders written byte by byte, so that a test can make any of them wrong on purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

BASE_CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}

CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "tiny",
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
}

FEATURES = {"q_proj": (32, 32), "k_proj": (32, 16), "v_proj": (32, 16), "o_proj": (32, 32)} | {
    "gate_proj": (32, 48),
    "up_proj": (32, 48),
    "down_proj": (48, 32),
}

Tensors = dict[str, "np.ndarray[Any, Any]"]

_DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int8": "I8", "uint16": "BF16"}


def name_of(layer: int, target: str, side: str) -> str:
    block = "mlp" if target in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    return f"base_model.model.model.layers.{layer}.{block}.{target}.lora_{side}.weight"


def tensors(*, rank: int = 4, targets: tuple[str, ...] = ("q_proj", "down_proj"), seed: int = 0) -> Tensors:
    """The factors of `targets` in both layers of BASE_CONFIG, of the size that training gives them."""
    random = np.random.default_rng(seed)
    made: Tensors = {}
    for layer in range(2):
        for target in targets:
            inner, outer = FEATURES[target]
            made[name_of(layer, target, "A")] = random.normal(0, 0.1, (rank, inner)).astype(np.float32)
            made[name_of(layer, target, "B")] = random.normal(0, 0.1, (outer, rank)).astype(np.float32)
    return made


def encode(tensors: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """A safetensors file; uint16 arrays are written as bfloat16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor).tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {
            "dtype": _DTYPES[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        body += data
    return with_header(json.dumps(header).encode(), body)


def with_header(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def write_adapter(
    folder: Path,
    *,
    config: Mapping[str, Any] | None = None,
    weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> Path:
    """A servable adapter for BASE_CONFIG, or one with another config or other weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG if config is None else config))
    (folder / "adapter_model.safetensors").write_bytes(encode(tensors() if weights is None else weights))
    return folder
