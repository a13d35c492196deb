"""The rules here against the code they stand for: vLLM's loader, transformers' models, PEFT's files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.lora import BASE_CONFIG, CONFIG, Tensors, tensors, write_adapter

from hotshoe.registry.inspect import SERVED_TARGETS, inspect
from hotshoe.registry.inspect.config import parse_config
from hotshoe.registry.inspect.shapes import BaseShapes

FAMILIES = (
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
)


@pytest.fixture(scope="module")
def vllm_lora() -> SimpleNamespace:
    """vLLM's own reader of adapters, without an engine."""
    pytest.importorskip("vllm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from vllm.lora.lora_model import LoRAModel
        from vllm.lora.peft_helper import PEFTHelper
    return SimpleNamespace(model=LoRAModel, helper=PEFTHelper, dtype=torch.float32)


def loads(vllm_lora: SimpleNamespace, folder: Path) -> bool:
    """Would vLLM take the folder? (Its worker does these three steps, and activates after them.)"""
    try:
        helper = vllm_lora.helper.from_local_dir(str(folder), 512)
        helper.validate_legal(SimpleNamespace(max_lora_rank=512))
        model = vllm_lora.model.from_local_checkpoint(
            str(folder), set(SERVED_TARGETS), helper, lora_model_id=1, device="cpu", dtype=vllm_lora.dtype
        )
        for lora in model.loras.values():
            lora.optimize()
        return bool(model.loras)
    except Exception:
        return False


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 16}},
        {"init_lora_weights": "orthogonal"},
        {"r": "16"},
        {"r": 0},
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["embed_tokens"]},
        {"init_lora_weights": "pissa"},
        {"lora_bias": True},
        {"alora_invocation_tokens": [1]},
        {"layer_replication": [[0, 1]]},
        {"use_qalora": True},
        {"use_bdlora": {"nblocks": 2}},
        {"rank_pattern": {"q_proj": -1}},
    ],
    ids=str,
)
def test_vllm_takes_and_refuses_the_same_configs(
    vllm_lora: SimpleNamespace, tmp_path: Path, config: dict[str, Any]
) -> None:
    folder = write_adapter(tmp_path, config=CONFIG | config)
    assert loads(vllm_lora, folder) == (not inspect(folder, BASE_CONFIG).errors)


@pytest.mark.parametrize(
    "name", ["weights", "A only", "unknown target", "magnitude", "int8", "NaN", "too small"]
)
def test_whatever_vllm_refuses_is_refused_here(vllm_lora: SimpleNamespace, tmp_path: Path, name: str) -> None:
    made: Tensors = tensors()
    first = next(iter(made))
    stem = first.removesuffix(".lora_A.weight")
    changed: dict[str, Tensors] = {
        "weights": made,
        "A only": {key: value for key, value in made.items() if "lora_A" in key},
        "unknown target": {key.replace("q_proj", "x_proj"): value for key, value in made.items()},
        "magnitude": made | {f"{stem}.lora_magnitude_vector": np.ones(32, np.float32)},
        "int8": {key: value.astype(np.int8) for key, value in made.items()},
        "NaN": made | {first: made[first] * np.nan},
        "too small": made | {first: made[first][:, :8]},
    }
    folder = write_adapter(tmp_path, weights=changed[name])
    taken_here = not inspect(folder, BASE_CONFIG).errors
    assert taken_here == (name == "weights")
    # The last three vLLM takes in silence; they are the reason for looking closer than it does.
    assert loads(vllm_lora, folder) == (name in ("weights", "int8", "NaN", "too small"))


@pytest.mark.parametrize("rslora", [False, True])
def test_ranks_and_scales_are_those_of_vllm(vllm_lora: SimpleNamespace, rslora: bool) -> None:
    raw = CONFIG | {
        "use_rslora": rslora,
        "rank_pattern": {r"layers\.1\.self_attn\.q_proj": 2, "down_proj": 16},
        "alpha_pattern": {"model.layers.0.mlp.down_proj": 5.5, "q_proj": 3},
    }
    config, helper = parse_config(raw), vllm_lora.helper.from_dict(dict(raw))
    assert config is not None
    for layer in range(2):
        for block in ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"):
            module = f"model.layers.{layer}.{block}"
            assert (config.rank_of(module), config.scale_of(module)) == helper.get_rank_and_scaling(module)


@pytest.mark.parametrize("family", [*FAMILIES, "smollm3", "phi3"])
def test_the_shapes_are_those_of_the_models_themselves(family: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(
        family,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
        pad_token_id=0,
        **({"head_dim": 12} if family in ("qwen3", "gemma", "gemma2", "gemma3_text") else {}),
    )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    shapes = BaseShapes.of(json.loads(config.to_json_string(use_diff=False)))
    assert shapes is not None
    seen = {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert seen == {name: shapes.features(name) for name in seen}
    assert {f"{block}" for block in shapes.linears} == {
        name.split(".", 3)[3] for name in seen if name.startswith("model.layers.0.")
    }


def test_what_peft_saves_passes(tmp_path: Path) -> None:
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**BASE_CONFIG))
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    inspection = inspect(tmp_path, json.loads(model.config.to_json_string(use_diff=False)), max_rank=8)
    assert inspection.findings == ()
    assert len(inspection.targets) == 7


@pytest.mark.filterwarnings("ignore:Full backward hook")
def test_lora_ga_answers_as_it_was_trained_only_after_peft_converted_it(
    tiny_base: Path, tmp_path: Path
) -> None:
    import torch
    from peft import LoraConfig, LoraGAConfig, PeftModel, get_peft_model
    from peft.tuners.lora import preprocess_loraga
    from transformers import AutoModelForCausalLM

    ids = torch.arange(5, 45)[None]

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)

    def answer(folder: Path) -> Any:
        with torch.inference_mode():
            return PeftModel.from_pretrained(base(), folder).eval()(input_ids=ids).logits

    config = LoraConfig(
        r=4,
        target_modules=["q_proj", "down_proj"],
        task_type="CAUSAL_LM",
        init_lora_weights="lora_ga",
        lora_ga_config=LoraGAConfig(),
    )
    beginning = base()
    preprocess_loraga(beginning, config, lambda: beginning(input_ids=ids, labels=ids).loss.backward())
    model = get_peft_model(beginning, config)
    model.save_pretrained(tmp_path / "begun")
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.02 * torch.ones_like(parameter)
    with torch.inference_mode():
        trained = model.eval()(input_ids=ids).logits
    model.save_pretrained(tmp_path / "saved")
    model.save_pretrained(
        tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "begun")
    )
    base_config = json.loads((tiny_base / "config.json").read_text())
    assert (answer(tmp_path / "saved") - trained).abs().max() > 0.1
    found = {finding.code for finding in inspect(tmp_path / "saved", base_config).errors}
    assert found == {"BASE_CHANGING_INIT"}
    assert (answer(tmp_path / "converted") - trained).abs().max() < 1e-2
    assert not inspect(tmp_path / "converted", base_config).errors
