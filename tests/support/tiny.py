"""A tiny base model and tiny adapters, random but always the same: what the tests serve.

The base is a Llama of 2 layers, hidden 128, with its own 1,024-token byte-pair vocabulary and chat
template: 1.8 MB, thousands of tokens a second on one core. The adapters are strong enough to change
greedy answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VOCABULARY = 1024
HIDDEN = 128
INTERMEDIATE = 352
LAYERS = 2
HEADS = 4
KV_HEADS = 2
CONTEXT_TOKENS = 512

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'tool' %}{{ raise_exception('tool turns are not known') }}{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_CORPUS = (
    "The camera's hot shoe is one fixed mount on which accessories slide in live.",
    "One frozen base model, many tenants' adapters, swapped per request.",
    "Dear support, my invoice of March is wrong; please send a new one to the address below.",
    "The tenant shall pay the rent on the first day of each month, in advance.",
    '{"category": "billing", "urgency": "high", "summary": "wrong invoice", "order": 12345}',
)


def build_base(folder: Path, *, seed: int = 7) -> Path:
    """Write the base model into `folder` as a Hugging Face folder; the same seed gives the same bytes."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer()
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.08,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=0.7,
        top_p=0.9,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_adapter(
    folder: Path,
    *,
    seed: int,
    rank: int = 8,
    alpha: float = 16,
    targets: Sequence[str] = ALL_LINEAR,
    scale: float = 0.1,
    base_name: str = "tiny",
) -> Path:
    """Write a random PEFT LoRA into `folder`: `scale` is the size of its numbers, 0 in B does nothing."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for layer in range(LAYERS):
        for target in targets:
            inputs, outputs = shapes(target)
            stem = f"base_model.model.model.layers.{layer}.{_parent(target)}.{target}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) * scale
            tensors[f"{stem}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) * scale
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(
        json.dumps(adapter_config(rank=rank, alpha=alpha, targets=targets, base_name=base_name), indent=2)
    )
    return folder


def adapter_config(
    *, rank: int = 8, alpha: float = 16, targets: Sequence[str] = ALL_LINEAR, base_name: str = "tiny"
) -> dict[str, Any]:
    """An `adapter_config.json` as PEFT writes it, as far as anybody reads it."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(targets),
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
        "fan_in_fan_out": False,
    }


def shapes(target: str) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer of the base."""
    kv = HIDDEN * KV_HEADS // HEADS
    return {
        "q_proj": (HIDDEN, HIDDEN),
        "k_proj": (HIDDEN, kv),
        "v_proj": (HIDDEN, kv),
        "o_proj": (HIDDEN, HIDDEN),
        "gate_proj": (HIDDEN, INTERMEDIATE),
        "up_proj": (HIDDEN, INTERMEDIATE),
        "down_proj": (INTERMEDIATE, HIDDEN),
    }[target]


def _parent(target: str) -> str:
    return "self_attn" if target in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    # The corpus is small: fill the vocabulary up, so that every id the model may emit has a text.
    raw.add_tokens([f"<{number}>" for number in range(VOCABULARY - raw.get_vocab_size())])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|endoftext|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT_TOKENS,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
