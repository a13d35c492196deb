"""One case for every option of adapter_config.json that the engine refuses, dies of, or takes wrongly."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.lora import BASE_CONFIG, CONFIG, name_of, tensors, write_adapter

from hotshoe.registry.inspect import Inspection, Severity, inspect

ABSENT = object()


def judged(folder: Path, **changes: Any) -> Inspection:
    config = {key: value for key, value in {**CONFIG, **changes}.items() if value is not ABSENT}
    return inspect(write_adapter(folder, config=config), BASE_CONFIG)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("NOT_LORA", {"peft_type": "LOHA"}),
        ("NOT_LORA", {"peft_type": ABSENT}),
        ("BAD_RANK", {"r": ABSENT}),
        ("BAD_RANK", {"r": 0}),
        ("BAD_RANK", {"r": -4}),
        ("BAD_RANK", {"r": "16"}),
        ("BAD_RANK", {"r": True}),
        ("BAD_RANK", {"r": 4.0}),
        ("BAD_RANK", {"rank_pattern": {"q_proj": 0}}),
        ("BAD_RANK", {"rank_pattern": {"q_proj": "8"}}),
        ("BAD_ALPHA", {"lora_alpha": ABSENT}),
        ("BAD_ALPHA", {"lora_alpha": "8"}),
        ("BAD_ALPHA", {"lora_alpha": 1e30}),
        ("BAD_ALPHA", {"lora_alpha": 10**400}),
        ("BAD_ALPHA", {"alpha_pattern": {"q_proj": None}}),
        ("BAD_TARGETS", {"target_modules": ABSENT}),
        ("BAD_TARGETS", {"target_modules": []}),
        ("BAD_TARGETS", {"target_modules": [1]}),
        ("BAD_PATTERN", {"rank_pattern": {"(a*)*": 4}}),
        ("BAD_PATTERN", {"rank_pattern": {"(a|a)+": 4}}),
        ("BAD_PATTERN", {"rank_pattern": {"q_proj(": 4}}),
        ("BAD_PATTERN", {"rank_pattern": ["q_proj"]}),
        ("BAD_PATTERN", {"alpha_pattern": {r"(a)\1": 4}}),
        ("BAD_PATTERN", {"rank_pattern": {"(|)" * 40 + "x": 4}}),
        ("BAD_PATTERN", {"alpha_pattern": {"[(]" + "(a|aa)" * 20 + "(q|v)_proj": 4}}),
        (
            "BAD_PATTERN",
            {"alpha_pattern": {")\\": 4}},
        ),  # Valid only between the parentheses that go round it.
        ("BAD_PATTERN", {"rank_pattern": {"q)|(proj": 4}}),
        ("BAD_PATTERN", {"exclude_modules": r"(?:[\w.]+)+!"}),
        ("BAD_PATTERN", {"exclude_modules": "("}),
        ("BAD_PATTERN", {"exclude_modules": ".*.*.*x"}),
        ("BAD_PATTERN", {"layers_pattern": "([a-z]*)*x", "layers_to_transform": [0]}),
        ("BAD_PATTERN", {"layers_pattern": ["layers", "("], "layers_to_transform": [0]}),
        ("BAD_PATTERN", {"layers_pattern": 5, "layers_to_transform": [0]}),
        ("BAD_TARGETS", {"exclude_modules": 5}),
        ("BAD_TARGETS", {"exclude_modules": ["k_proj", 5]}),
        ("BAD_TARGETS", {"layers_to_transform": "x"}),
        ("BAD_TARGETS", {"layers_to_transform": [True]}),
        ("BAD_CONFIG", {"lora_dropout": "x"}),
        ("BAD_CONFIG", {"lora_dropout": 7}),
        ("BAD_CONFIG", {"eva_config": 5}),
        ("BAD_CONFIG", {"loftq_config": "x"}),
        ("BAD_CONFIG", {"use_rslora": "false"}),
        ("MODULES_TO_SAVE", {"modules_to_save": ["lm_head"]}),
        ("MODULES_TO_SAVE", {"modules_to_save": ["score"]}),
        ("DORA", {"use_dora": True}),
        ("BIAS", {"bias": "lora_only"}),
        ("BIAS", {"lora_bias": True}),
        ("BASE_CHANGING_INIT", {"init_lora_weights": "pissa"}),
        ("BASE_CHANGING_INIT", {"init_lora_weights": "pissa_niter_16"}),
        ("BASE_CHANGING_INIT", {"init_lora_weights": "olora"}),
        ("BASE_CHANGING_INIT", {"init_lora_weights": "corda"}),
        ("BASE_CHANGING_INIT", {"init_lora_weights": "loftq"}),
        ("BASE_CHANGING_INIT", {"init_lora_weights": "lora_ga"}),
        ("ALORA", {"alora_invocation_tokens": [1, 2]}),
        ("LAYER_REPLICATION", {"layer_replication": [[0, 2], [1, 2]]}),
        ("BDLORA", {"use_bdlora": {"nblocks": 2}}),
        ("QALORA", {"use_qalora": True}),
        ("KASA", {"kasa_config": {"beta": 1e-4}}),
        ("ARROW", {"arrow_config": {"top_k": 3}}),
        ("MONTECLORA", {"monteclora_config": {"k": 1}}),
        ("MEGATRON", {"megatron_config": {"k": 1}, "megatron_core": "antigravity"}),
        ("TRAINABLE_TOKENS", {"trainable_token_indices": [5]}),
        ("WRONG_TASK", {"task_type": "SEQ_CLS"}),
        ("RANK_TOO_HIGH", {"r": 513}),
        ("RANK_TOO_HIGH", {"rank_pattern": {"v_proj": 1024}}),
        ("RANK_MISMATCH", {"r": 8}),
        ("RANK_MISMATCH", {"rank_pattern": {"q_proj": 8}}),
    ],
)
def test_a_config_that_cannot_be_served_is_an_error(
    tmp_path: Path, code: str, changes: dict[str, Any]
) -> None:
    inspection = judged(tmp_path, **changes)
    assert code in {finding.code for finding in inspection.errors}, inspection


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("ODD_ALPHA", {"lora_alpha": 0}),
        ("ODD_ALPHA", {"lora_alpha": -8}),
        ("UNKNOWN_OPTION", {"use_hyperlora": True}),
        ("COMPLEX_TARGETS", {"target_modules": r"(?:[\w.]+)+!"}),
        ("COMPLEX_TARGETS", {"target_modules": r"(?:.*?(?:self_attn|mlp).*?(?:q_proj|down_proj).*?)"}),
        ("UNUSED_TARGET", {"target_modules": ["q_proj", "down_proj", "v_proj"]}),
    ],
)
def test_an_odd_config_is_a_warning(tmp_path: Path, code: str, changes: dict[str, Any]) -> None:
    inspection = judged(tmp_path, **changes)
    assert inspection.errors == ()
    assert code in {finding.code for finding in inspection.warnings}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_rslora": True},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
        {"target_modules": r".*\.(q_proj|down_proj)"},
        {"target_modules": r".*layers\.\d+\.(self_attn|mlp)\.(q_proj|down_proj)"},
        {"target_modules": "all-linear"},
        {"exclude_modules": ["k_proj"]},
        {"exclude_modules": r".*\.k_proj"},
        {"layers_to_transform": 1, "layers_pattern": "layers"},
        {"layers_to_transform": [0, 1], "layers_pattern": ["layers", "h"]},
        {"layers_to_transform": [0, 1]},
        {"alpha_pattern": {"q_proj": 16}},
        {"velora_config": None, "modules_to_save": None, "lora_dropout": 0.1},
    ],
)
def test_what_the_engine_serves_as_peft_does_has_no_finding(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert judged(tmp_path, **changes).findings == ()


def test_a_rank_pattern_that_the_tensors_follow_is_accepted_and_gives_the_largest_rank(
    tmp_path: Path,
) -> None:
    weights = tensors() | {
        name: value for name, value in tensors(rank=8).items() if "layers.1" in name and "q_proj" in name
    }
    config = CONFIG | {"rank_pattern": {r"model\.layers\.1\.self_attn\.q_proj": 8}}
    inspection = inspect(write_adapter(tmp_path, config=config, weights=weights), BASE_CONFIG)
    assert inspection.findings == ()
    assert inspection.rank == 8


def test_the_rank_limit_of_the_server_counts_where_it_is_known(adapter: Path) -> None:
    assert inspect(adapter, BASE_CONFIG, max_rank=4).findings == ()
    [finding] = inspect(adapter, BASE_CONFIG, max_rank=2).findings
    assert (finding.severity, finding.code) == (Severity.ERROR, "RANK_TOO_HIGH")
    assert "r <= 2" in finding.next_step


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"r": NaN}',
        '{"r": 4, "r": 8}',
        "[" * 100_000,
        '{"r":' + "9" * 10_000 + "}",
        "\ufeff{}",
    ],
)
def test_a_config_that_readers_may_read_differently_is_refused(adapter: Path, text: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    assert [finding.code for finding in inspect(adapter, BASE_CONFIG).errors] == ["BAD_CONFIG"]


def test_a_config_of_a_gigabyte_is_refused_by_its_size(adapter: Path) -> None:
    with (adapter / "adapter_config.json").open("wb") as file:
        file.truncate(1 << 30)
    assert [finding.code for finding in inspect(adapter, BASE_CONFIG).errors] == ["OVERSIZED"]


def test_patterns_that_would_take_minutes_to_match_are_refused(tmp_path: Path) -> None:
    weights = {
        name.replace("layers.1", f"layers.{layer}"): value
        for layer in range(1500)
        for name, value in tensors().items()
        if "layers.1" in name
    }
    config = CONFIG | {"rank_pattern": {f"layers.{n}.q_proj": 4 for n in range(1000)}}
    inspection = inspect(write_adapter(tmp_path, config=config, weights=weights), None)
    assert [finding.code for finding in inspection.errors] == ["BAD_PATTERN"]


def test_few_patterns_that_run_far_for_each_name_are_refused_too(tmp_path: Path) -> None:
    deep = {name.replace("model.layers", "a." * 90 + "layers"): value for name, value in tensors().items()}
    weights = {
        name.replace("layers.1", f"layers.{layer}"): value
        for layer in range(30)
        for name, value in deep.items()
        if "layers.1" in name
    }
    config = CONFIG | {"rank_pattern": {f".*{n}b": 4 for n in range(1000)}}
    inspection = inspect(write_adapter(tmp_path, config=config, weights=weights), None)
    assert [finding.code for finding in inspection.errors] == ["BAD_PATTERN"]


def test_a_pattern_for_each_module_of_a_large_base_is_taken(tmp_path: Path) -> None:
    weights = {
        name.replace("layers.1", f"layers.{layer}"): value
        for layer in range(280)
        for name, value in tensors().items()
        if "layers.1" in name
    }
    each = {name.removeprefix("base_model.model.").split(".lora_")[0]: 4 for name in weights}
    config = CONFIG | {"rank_pattern": each | {".*q_proj": 4}}
    assert inspect(write_adapter(tmp_path, config=config, weights=weights), None).errors == ()


@pytest.mark.parametrize(("said", "code"), [(4, "RANK_MISMATCH"), (30_000, "RANK_TOO_HIGH")])
def test_a_rank_that_would_fill_the_memory_is_refused_before_it_is_multiplied_out(
    tmp_path: Path, said: int, code: str
) -> None:
    weights = {
        name_of(0, "q_proj", "A"): np.ones((30_000, 1), np.float32),
        name_of(0, "q_proj", "B"): np.ones((1, 30_000), np.float32),
    }
    folder = write_adapter(
        tmp_path, config=CONFIG | {"r": said, "target_modules": ["q_proj"]}, weights=weights
    )
    tracemalloc.start()
    inspection = inspect(folder, None)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20, "the squares alone have gigabytes"
    tracemalloc.stop()
    assert [finding.code for finding in inspection.errors] == [code]


def test_each_tensor_wrong_in_rank_is_named(tmp_path: Path) -> None:
    inspection = judged(tmp_path, r=8)
    assert name_of(0, "q_proj", "A") in {finding.subject for finding in inspection.errors}
