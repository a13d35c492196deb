"""One case for every kind of tensor that the engine refuses, dies of, or takes in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.lora import BASE_CONFIG, CONFIG, Tensors, name_of, tensors, write_adapter

from hotshoe.registry.inspect import inspect

QA, QB = name_of(0, "q_proj", "A"), name_of(0, "q_proj", "B")
STEM = QA.removesuffix(".lora_A.weight")

Change = Callable[[Tensors], Tensors]


def renamed(old: str, new: str) -> Change:
    return lambda made: {name.replace(old, new): value for name, value in made.items()}


def added(name: str, *shape: int) -> Change:
    return lambda made: made | {name: np.ones(shape, np.float32)}


def replaced(name: str, make: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Change:
    return lambda made: made | {name: make(made[name])}


def only(side: str) -> Change:
    return lambda made: {name: value for name, value in made.items() if f"lora_{side}" in name}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        pytest.param("NO_TENSORS", lambda made: {}, id="no tensors"),
        pytest.param("MISSING_FACTOR", only("A"), id="only As"),
        pytest.param("MISSING_FACTOR", only("B"), id="only Bs"),
        pytest.param("WRONG_PREFIX", renamed("base_model.model.", ""), id="no prefix"),
        pytest.param(
            "WRONG_PREFIX", renamed("base_model.model.", "base_model.model." * 2), id="prefix twice"
        ),
        pytest.param("NO_SUCH_MODULE", renamed("model.model.layers", "model.layers"), id="one level too few"),
        pytest.param("NO_SUCH_MODULE", renamed("layers.1", "layers.2"), id="a layer that the base lacks"),
        pytest.param("NO_SUCH_MODULE", renamed("layers.1", "layers.01"), id="a layer written oddly"),
        pytest.param("NOT_SERVED", renamed("q_proj", "c_attn"), id="another family's module"),
        pytest.param("NOT_SERVED", renamed(f"{STEM}.", "base_model.model.lm_head."), id="lm_head"),
        pytest.param(
            "NAMED_FACTOR", renamed("lora_A.weight", "lora_A.default.weight"), id="adapter name inside"
        ),
        pytest.param("DORA", added(f"{STEM}.lora_magnitude_vector", 32), id="DoRA's magnitude"),
        pytest.param("BIAS", added(f"{STEM}.lora_B.bias", 32), id="LoRA bias"),
        pytest.param("BIAS", added(f"{STEM}.bias", 32), id="base bias"),
        pytest.param("MODULES_TO_SAVE", added(f"{STEM}.modules_to_save.weight", 32, 32), id="module to save"),
        pytest.param("BASE_WEIGHTS", added("base_model.model.lm_head.weight", 100, 32), id="full lm_head"),
        pytest.param(
            "BASE_WEIGHTS",
            added("base_model.model.model.embed_tokens.weight", 101, 32),
            id="extra vocabulary",
        ),
        pytest.param(
            "BASE_WEIGHTS",
            added("base_model.model.model.embed_tokens.base_layer.weight", 100, 32),
            id="base embedding that PEFT writes",
        ),
        pytest.param(
            "TRAINABLE_TOKENS",
            added("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", 2, 32),
            id="trainable tokens",
        ),
        pytest.param("NO_LORA_TENSOR", added(f"{STEM}.lora_diag", 4), id="something unknown"),
        pytest.param("BAD_SHAPE", replaced(QA, lambda a: a[:, :16]), id="too narrow: garbage in vLLM"),
        pytest.param("BAD_SHAPE", replaced(QB, lambda b: b[:16]), id="too short: garbage in vLLM"),
        pytest.param("BAD_SHAPE", replaced(QA, lambda a: np.tile(a, 2)), id="too wide"),
        pytest.param("BAD_SHAPE", replaced(QA, lambda a: a.T), id="transposed"),
        pytest.param("BAD_SHAPE", replaced(QB, lambda b: b[:, :2]), id="B of another rank"),
        pytest.param("BAD_SHAPE", replaced(QA, lambda a: a[:0]), id="empty"),
        pytest.param("BAD_SHAPE", replaced(QA, lambda a: a.reshape(-1)), id="flat"),
        pytest.param("BAD_DTYPE", replaced(QA, lambda a: a.astype(np.int8)), id="int8"),
        pytest.param("NOT_FINITE", replaced(QA, lambda a: a * np.nan), id="NaN"),
        pytest.param("NOT_FINITE", replaced(QB, lambda b: b + np.inf), id="Inf"),
        pytest.param(
            "NOT_FINITE", replaced(QB, lambda b: (b + np.inf).astype(np.float16)), id="Inf in float16"
        ),
        pytest.param(
            "NOT_FINITE", replaced(QB, lambda b: np.full(b.shape, 0x7FC0, np.uint16)), id="NaN in bf16"
        ),
        pytest.param("TOO_LARGE", replaced(QB, lambda b: b * np.float32(1e20)), id="x1e20"),
        pytest.param("TOO_LARGE", replaced(QA, lambda a: a.astype(np.float64) * 1e300), id="beyond float32"),
        pytest.param(
            "TOO_LARGE",
            lambda made: made | {QA: made[QA] * np.float32(1e12), QB: made[QB] * np.float32(1e-12)},
            id="huge A hidden by a tiny B",
        ),
    ],
)
def test_weights_that_cannot_be_served_are_an_error(tmp_path: Path, code: str, change: Change) -> None:
    inspection = inspect(write_adapter(tmp_path, weights=change(tensors())), BASE_CONFIG)
    assert code in {finding.code for finding in inspection.errors}, inspection


def test_alpha_counts_in_the_size_of_the_change(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path, config=CONFIG | {"lora_alpha": 1_000_000})
    assert {finding.code for finding in inspect(folder, BASE_CONFIG).errors} == {"TOO_LARGE"}


def test_lm_head_counts_where_the_server_wraps_it(tmp_path: Path) -> None:
    weights = {
        "base_model.model.lm_head.lora_A.weight": np.full((4, 32), 0.1, np.float32),
        "base_model.model.lm_head.lora_B.weight": np.full((100, 4), 0.1, np.float32),
    }
    folder = write_adapter(tmp_path, config=CONFIG | {"target_modules": ["lm_head"]}, weights=weights)
    served = frozenset({"lm_head"})
    assert inspect(folder, BASE_CONFIG, served=served).findings == ()
    codes = {
        finding.code
        for finding in inspect(folder, BASE_CONFIG | {"vocab_size": 300_000}, served=served).errors
    }
    assert codes == {"BAD_SHAPE", "VOCABULARY_TOO_LARGE"}


def test_an_embedding_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    weights = {
        "base_model.model.model.embed_tokens.lora_embedding_A": np.full((4, 101), 0.1, np.float32),
        "base_model.model.model.embed_tokens.lora_embedding_B": np.full((32, 4), 0.1, np.float32),
    }
    folder = write_adapter(tmp_path, config=CONFIG | {"target_modules": ["embed_tokens"]}, weights=weights)
    inspection = inspect(folder, BASE_CONFIG, served=frozenset({"embed_tokens"}))
    assert [finding.code for finding in inspection.errors] == ["BAD_SHAPE"]


def test_an_untrained_adapter_is_a_warning_that_it_does_nothing(tmp_path: Path) -> None:
    weights = {name: value * ("lora_A" in name) for name, value in tensors().items()}
    inspection = inspect(write_adapter(tmp_path, weights=weights), BASE_CONFIG)
    assert [finding.code for finding in inspection.findings] == ["DOES_NOTHING"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type_is_read(tmp_path: Path, dtype: type[np.floating[Any]]) -> None:
    weights = {name: value.astype(dtype) for name, value in tensors().items()}
    assert inspect(write_adapter(tmp_path, weights=weights), BASE_CONFIG).findings == ()


def test_bfloat16_is_read(tmp_path: Path) -> None:
    weights = {name: (value.view(np.uint32) >> 16).astype(np.uint16) for name, value in tensors().items()}
    assert inspect(write_adapter(tmp_path, weights=weights), BASE_CONFIG).findings == ()


def test_an_unknown_base_skips_the_shapes_and_says_so(adapter: Path) -> None:
    assert inspect(adapter, None).findings == ()
    unknown = {"model_type": "mamba"}
    assert [finding.code for finding in inspect(adapter, unknown).findings] == ["SHAPES_UNCHECKED"]
    broken = {**BASE_CONFIG, "hidden_size": "wide"}
    assert [finding.code for finding in inspect(adapter, broken).findings] == ["BASE_UNREADABLE"]


def test_the_facts_for_the_manifest_are_what_the_tensors_say(adapter: Path) -> None:
    inspection = inspect(adapter, BASE_CONFIG)
    assert (inspection.rank, inspection.alpha, inspection.targets) == (4, 8.0, ("down_proj", "q_proj"))
