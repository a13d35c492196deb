"""The base and the adapter on it, as torch modules.

The base stays frozen; peft puts the trainable update beside its linear layers.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.config import TrainConfig
from hotshoe.train.machine import Machine
from hotshoe.train.memory import memory_explained
from hotshoe.train.parent import Parent, building
from hotshoe.train.sections import LoraConfig
from hotshoe.train.tokens import Tokenizer

Model = Any
"""A transformers or peft model; Any, because both are imported where they are used and have no types."""

_ATTENTION = ("q_proj", "v_proj")
_LAYER = re.compile(r"\.(\d+)\.")


def load_tokenizer(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.eos_token_id is None:
        raise InvalidConfig(
            f"the tokenizer in {folder} names no eos_token: a model trained with it never stops"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token_id = tokenizer.eos_token_id
    return tokenizer


def context_tokens(folder: Path) -> int:
    """The most tokens that the base in `folder` takes, by its config."""
    config = json.loads((folder / "config.json").read_bytes())
    return int(config.get("max_position_embeddings") or sys.maxsize)


def load_base(folder: Path, machine: Machine, quantize: str | None = None) -> Model:
    """The base's weights in the machine's dtype, on its device, frozen; or in fewer bits.

    Raises Refused where they find no room.
    """
    advice = 'while the base is loaded: set quantize = "nf4", or take a smaller base or a larger machine'
    with memory_explained(advice):
        return _load(folder, machine, quantize)


def _load(folder: Path, machine: Machine, quantize: str | None) -> Model:
    from transformers import AutoModelForCausalLM

    if quantize is not None:
        bits = _bits(quantize, machine)
        where = {"": machine.device}
        model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=bits, device_map=where)
        for module in model.modules():
            # On CPUs with AVX-512-BF16 the first answer repacks 4-bit weights, and unpacks them with a loss:
            # a run that was at 0.07 without it stays at 1.4 (bitsandbytes 0.50).
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        return model.requires_grad_(False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=machine.torch_dtype())
    return model.to(machine.device).requires_grad_(False)


def _bits(quantize: str, machine: Machine) -> Any:
    """How bitsandbytes holds the base (Dettmers et al., QLoRA, 2023)."""
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise InvalidConfig("quantize needs bitsandbytes: pip install 'hotshoe[quantize]'")
    if quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=machine.torch_dtype(),
    )


def empty_base(folder: Path) -> Model:
    """The base's modules without their weights, on torch's meta device: shapes that cost nothing."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return model.requires_grad_(False)


def add_adapter(model: Model, lora: LoraConfig, *, seed: int, like: Parent | None = None) -> Model:
    """Wrap the base with a fresh adapter: A drawn by `seed`, B zero, so it begins as the base itself.

    like: a parent whose shape it takes instead of `lora`'s. Raises Unservable where PEFT cannot.
    """
    from peft import LoraConfig as PeftLora
    from peft import get_peft_model
    from transformers import set_seed

    set_seed(seed)
    if like is not None:
        with building(like):
            return get_peft_model(model, PeftLora.from_pretrained(str(like.folder)))
    config = PeftLora(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=list(targets(model, lora)),
        rank_pattern=dict(lora.rank_pattern),
        alpha_pattern=dict(lora.alpha_pattern),
        init_lora_weights=True if lora.init == "default" else lora.init,
        layers_to_transform=_last_layers(model, lora.last_layers),
    )
    adapted = get_peft_model(model, config)
    # It has begun. Whoever copies the adapter by its config, as trl does for a reference, must not take
    # another beginning out of the base's weights.
    config.init_lora_weights = True
    return adapted


def begin_adapter(model: Model, config: TrainConfig, parents: Sequence[Parent]) -> Model:
    """Wrap the base with the parent's adapter, ready to be trained on, or with a fresh one.

    Raises Unservable where PEFT cannot build the parent's.
    """
    from peft import PeftModel

    if parents:
        with building(parents[0]):
            return PeftModel.from_pretrained(model, parents[0].folder, is_trainable=True)
    return add_adapter(model, config.lora, seed=config.training.seed)


@contextmanager
def merged(model: Model) -> Iterator[None]:
    """Fold the adapter into the base's weights for the block: the same answers, with fewer products.

    A base in few bits stays as it is: folding would round the update away.
    """
    if getattr(model, "is_quantized", False) or getattr(model.get_base_model(), "is_quantized", False):
        yield
        return
    model.merge_adapter()
    try:
        yield
    finally:
        model.unmerge_adapter()


def targets(model: Model, lora: LoraConfig) -> tuple[str, ...]:
    """Module names that get an update, sorted; raise InvalidConfig for one that the base lacks.

    peft's own "all-linear" cannot be combined with a choice of layers, so it is spelled out here.
    """
    linear = _linear_names(model)
    if lora.targets == "all-linear":
        return linear
    wanted = _ATTENTION if lora.targets == "attention" else lora.targets
    if missing := sorted(set(wanted) - set(linear)):
        raise InvalidConfig(
            f"lora.targets: the base has no linear {', '.join(missing)}; it has {', '.join(linear)}"
        )
    return tuple(sorted(set(wanted)))


def trainable_parameters(model: Model) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def lowest_trained_layer(model: Model) -> int:
    """The number of the first layer with an adapter: below it no gradient is needed."""
    found = (_LAYER.search(name) for name, _ in model.named_parameters() if "lora_" in name)
    return min((int(match[1]) for match in found if match), default=0)


def _linear_names(model: Model) -> tuple[str, ...]:
    import torch

    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        # The output head stands outside the layers; a LoRA there corrupts other tenants' rows in vLLM.
        if isinstance(module, torch.nn.Linear) and _LAYER.search(name)
    }
    return tuple(sorted(names))


def _last_layers(model: Model, count: int | None) -> list[int] | None:
    if count is None:
        return None
    total = int(model.config.num_hidden_layers)
    if count > total:
        raise InvalidConfig(f"lora.last_layers = {count}: the base has {total} layers")
    return list(range(total - count, total))
