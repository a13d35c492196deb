from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.config import TrainConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n')
    return tmp_path


def parse(folder: Path, **tables: Any) -> TrainConfig:
    return TrainConfig.parse({"base": "acme/base", "data": {"train": "rows.jsonl"}} | tables, folder=folder)


def test_the_smallest_config_has_good_defaults(folder: Path) -> None:
    config = parse(folder)
    assert (config.recipe, config.lora.rank, config.lora.alpha) == ("sft", 16, 32.0)
    assert config.lora.targets == "all-linear"
    assert config.data.train == folder / "rows.jsonl"


def test_an_unknown_key_is_refused_with_the_nearest_one(folder: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"training\.batch_row: .* \(did you mean 'batch_rows'\?\)"):
        parse(folder, training={"batch_row": 4})


def test_a_key_by_its_alias_is_named_by_its_alias(folder: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"publish\.ass: unknown key \(did you mean 'as'\?\)"):
        parse(folder, publish={"ass": "acme/support"})


def test_every_fault_is_told_at_once(folder: Path) -> None:
    with pytest.raises(InvalidConfig) as refused:
        parse(folder, lora={"rank": 0}, training={"stepz": 4}, recipe="magic")
    for part in ("lora.rank", "training.stepz", "recipe"):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"lora": {"rank": 513}}, "lora.rank"),
        ({"lora": {"targets": "all"}}, "lora.targets"),
        ({"lora": {"init": "corda"}}, "a pass over data"),
        (
            {"lora": {"init": "lora_ga"}},
            "takes its beginning, made of gradients, out of the base's weights",
        ),
        ({"lora": {"init": "random"}}, "none of default, gaussian, orthogonal"),
        ({"lora": {"init": "pissa", "rank": 257}}, "ends at twice the rank, 514"),
        ({"lora": {"init": "olora", "rank_pattern": {"q_proj": 300}}}, "ends at twice the rank, 600"),
        ({"lora": {"init": "olora"}, "quantize": "nf4"}, "cannot give back exactly"),
        ({"lora": {"init": "pissa"}, "recipe": "full"}, "cannot give back exactly"),
        ({"lora": {"rank_pattern": {"q_proj": 0}}}, "a rank is 1 to 512"),
        ({"lora": {"rslora": True, "alpha_pattern": {"q_proj": 8.0}}}, "does not go with patterns"),
        ({"lora": {"use_dora": True}}, "vLLM serves no DoRA"),
        ({"lora": {"bias": "all"}}, "vLLM serves no"),
        ({"training": {"steps": 4, "epochs": 1}}, "steps or epochs, not both"),
        ({"training": {"learning_rate": 2}}, "training.learning_rate"),
        ({"evaluation": {"metrics": ["exakt"]}}, "did you mean 'exact'?"),
        (
            {"evaluation": {"metrics": ["f1"], "main": "exact"}},
            "evaluation.main needs 'exact', which is not measured",
        ),
        ({"publish": {"as": "support"}}, "names no adapter"),
        ({"parent": "acme/support@Prod"}, "no valid alias"),
        ({"parent": "acme/support@v1", "lora": {"rank": 8}}, "keeps the parent's shape"),
        ({"data": {"train": "none.jsonl"}}, "there is no file"),
        ({"data": {"train": "hub:acme/rows"}}, "must be hub:org/name@revision"),
        ({"gates": ["f1 is good"]}, "write one like"),
        ({"gates": ["exakt >= 1"]}, "which is not measured (did you mean 'exact'?)"),
        ({"gates": ["f1 >= parent"]}, "and there is none"),
        ({"recipe": "pretrain", "gates": ["f1 >= 0.5"]}, "needs 'f1', which is not measured"),
        ({"evaluation": {"main": "preferred"}}, "needs 'preferred', which is not measured"),
        ({"evaluation": {"patterns": {"polite": "("}}}, "no regular expression"),
        ({"evaluation": {"patterns": {"loss": "x"}}}, "'loss' cannot name a metric"),
        ({"evaluation": {"patterns": {"my word": "x"}}}, "'my word' cannot name a metric"),
        ({"evaluation": {"patterns": {"a": "x"}, "functions": {"a": "score.py:f"}}}, "there is no file"),
        ({"evaluation": {"schemas": {"ticket": "none.json"}}}, "there is no file"),
        ({"evaluation": {"functions": {"tone": "score"}}}, "must be FILE.py:NAME"),
        ({"gates": ["f1 >= 0.5"]}, "name data.heldout"),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, tables: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        parse(folder, **tables)
    assert said in str(refused.value)


def test_a_file_is_read_and_flags_override_it(folder: Path) -> None:
    file = folder / "train.toml"
    file.write_text('base = "acme/base"\n[data]\ntrain = "rows.jsonl"\n[training]\nsteps = 9\n')
    config = TrainConfig.read(
        file, {"training.steps": "3", "publish.as": "acme/support", "lora.rslora": "true"}
    )
    assert config.training.steps == 3
    assert str(config.adapter) == "acme/support"
    assert config.lora.rslora


def test_a_base_folder_is_relative_to_the_file(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    assert parse(folder, base="model").base == str(folder / "model")


@pytest.mark.parametrize("text", ["base = ", "\x80"])
def test_a_file_that_is_no_toml_is_refused(folder: Path, text: str) -> None:
    file = folder / "train.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidConfig, match=r"train\.toml"):
        TrainConfig.read(file)


def test_a_missing_file_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidConfig, match="there is no config file"):
        TrainConfig.read(folder / "none.toml")


def test_the_facts_name_no_path_of_this_machine(folder: Path) -> None:
    facts = parse(folder, data={"train": "rows.jsonl", "heldout": "rows.jsonl"}).facts()
    assert facts["data"]["train"] == "rows.jsonl"
    assert str(folder) not in str(facts)
