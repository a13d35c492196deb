"""The shapes that the base's linear layers have, from its `config.json` alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SERVED_TARGETS = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "gate_up_proj"}
)
"""The modules that a Hotshoe server wraps, and so the only ones that an adapter may touch.

Not lm_head and embed_tokens: wrapped, they gather [tokens, vocab, rank] at every step of everyone. vLLM
leaves out in silence what an adapter has for a module that is not wrapped.
"""

MAX_LM_HEAD_VOCABULARY = 258_048
"""vLLM, lora/layers/logits_processor.py."""

_SEPARATE = frozenset(
    {
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "granite",
        "olmo",
        "olmo2",
        "smollm3",
    }
)
_PACKED = frozenset({"phi3"})

_LAYER = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,5})\.(self_attn|mlp)\.([a-z_]+)")


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """Sizes of a llama-like base. `linears` maps `self_attn.q_proj` and the like to (in, out) features."""

    model_type: str
    layers: int
    hidden: int
    vocabulary: int
    linears: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> BaseShapes | None:
        """Derive the sizes, or None for a family whose module names and shapes are not known here.

        Raises ValueError, naming the field, for a config of a known family that lacks a size.
        """
        model_type = config.get("model_type")
        if not isinstance(model_type, str) or model_type not in _SEPARATE | _PACKED:
            return None
        hidden, inner = _size(config, "hidden_size"), _size(config, "intermediate_size")
        heads = _size(config, "num_attention_heads")
        kv_heads = _size(config, "num_key_value_heads", heads)
        head = _size(config, "head_dim", hidden // heads)
        query, key = heads * head, kv_heads * head
        linears = {"self_attn.o_proj": (query, hidden), "mlp.down_proj": (inner, hidden)}
        if model_type in _PACKED:
            linears |= {
                "self_attn.qkv_proj": (hidden, query + 2 * key),
                "mlp.gate_up_proj": (hidden, 2 * inner),
            }
        else:
            linears |= {
                f"self_attn.{name}": (hidden, out) for name, out in (("q_proj", query), ("k_proj", key))
            }
            linears |= {"self_attn.v_proj": (hidden, key)}
            linears |= {"mlp.gate_proj": (hidden, inner), "mlp.up_proj": (hidden, inner)}
        return cls(
            model_type, _size(config, "num_hidden_layers"), hidden, _size(config, "vocab_size"), linears
        )

    def features(self, module: str) -> tuple[int, int] | None:
        """(in, out) of `model.layers.3.self_attn.q_proj`, None where the base has no such module.

        PEFT sees an embedding as vocabulary in, hidden out, and lm_head the other way round.
        """
        if module == "model.embed_tokens":
            return self.vocabulary, self.hidden
        if module == "lm_head":
            return self.hidden, self.vocabulary
        match = _LAYER.fullmatch(module)
        if match is None or int(match[1]) >= self.layers:
            return None
        return self.linears.get(f"{match[2]}.{match[3]}")


def _size(config: Mapping[str, Any], field: str, default: int | None = None) -> int:
    value = config.get(field)
    value = default if value is None else value
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"{field} is {value!r}, expected a whole number over 0")
    return value
