"""Every recipe learns something on the tiny base, and leaves an adapter that serves."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.routing import OPENINGS, PARTNERS, config, rows, write

from hotshoe.adapter.errors import InvalidConfig, InvalidData
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.registry import Registry, open_registry
from hotshoe.registry.inspect import inspect
from hotshoe.train.config import TrainConfig
from hotshoe.train.pretrain import pack
from hotshoe.train.result import TrainResult
from hotshoe.train.run import train
from hotshoe.train.tokens import Encoded

FAST = {"steps": 40, "batch_rows": 8, "learning_rate": 5e-3, "threads": 1}


def run(recipe: str, base: Path, folder: Path, out: Path, **tables: Any) -> TrainResult:
    chosen = config(base, folder, recipe=recipe, training=FAST, **tables)
    result = train(chosen, out=out)
    assert not inspect(result.folder, json.loads((base / "config.json").read_text())).findings
    assert sorted(path.name for path in result.folder.iterdir()) == [
        ".hotshoe",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    return result


def wrong(word: str) -> str:
    """Another word's partner."""
    words = sorted(PARTNERS)
    return PARTNERS[words[(words.index(word) + 1) % len(words)]]


def word_of(row: dict[str, str]) -> str:
    return next(word for word, partner in PARTNERS.items() if partner == row["output"])


def test_dpo_makes_better_answers_likelier_than_worse_ones(tiny_base: Path, tmp_path: Path) -> None:
    for name, seed, count in (("train", 1, 120), ("heldout", 2, 16)):
        pairs = [
            {"input": row["input"], "chosen": row["output"], "rejected": wrong(word_of(row))}
            for row in rows(seed, count)
        ]
        write(tmp_path / f"{name}.jsonl", pairs)
    result = run("dpo", tiny_base, tmp_path, tmp_path / "out")
    assert result.losses[0] == pytest.approx(0.693, abs=1e-3), "the policy begins as its reference"
    assert result.losses[-1] < 0.3
    assert result.adapter["preferred"] > max(result.base["preferred"], 0.9)


def test_kto_makes_what_was_praised_likelier(tiny_base: Path, tmp_path: Path) -> None:
    for name, seed, count in (("train", 1, 160), ("heldout", 2, 16)):
        judged: list[dict[str, object]] = []
        for index, row in enumerate(rows(seed, count)):
            good = bool(index % 2)
            answer = row["output"] if good else wrong(word_of(row))
            judged.append({"input": row["input"], "completion": answer, "label": good})
        write(tmp_path / f"{name}.jsonl", judged)
    result = run("kto", tiny_base, tmp_path, tmp_path / "out")
    assert result.losses[-1] < result.losses[0]
    assert result.adapter["loss"] < result.base["loss"]


@pytest.mark.parametrize("label", [True, False])
def test_kto_with_one_label_only_is_refused(tiny_base: Path, tmp_path: Path, label: bool) -> None:
    write(tmp_path / "train.jsonl", [{"input": "q", "completion": "a", "label": label}])
    chosen = config(tiny_base, tmp_path, recipe="kto", data={"train": "train.jsonl"}, training=FAST)
    with pytest.raises(InvalidData, match="rows of both labels"):
        train(chosen, out=tmp_path / "out")


def test_pretrain_learns_running_text(tiny_base: Path, tmp_path: Path) -> None:
    draw = random.Random(3)
    for name, count in (("train", 60), ("heldout", 8)):
        texts = [" ".join(draw.choices(OPENINGS, k=12)) for _ in range(count)]
        write(tmp_path / f"{name}.jsonl", [{"text": text} for text in texts])
    data = {"train": "train.jsonl", "heldout": "heldout.jsonl", "max_tokens": 128}
    result = run("pretrain", tiny_base, tmp_path, tmp_path / "out", data=data)
    assert result.adapter["loss"] < result.base["loss"] / 2
    assert "exact" not in result.adapter, "documents ask nothing"


def encoded(*lengths: int) -> list[Encoded]:
    return [Encoded(f"d:{n}", tuple(range(n)), tuple(range(n))) for n in lengths]


def test_packing_loses_no_token_and_fills_blocks() -> None:
    blocks = pack(encoded(5, 3, 2, 25), 10)
    sizes = [sum(len(piece.ids) for piece in block) for block in blocks]
    assert sum(sizes) == 35
    assert max(sizes) <= 10
    assert len(blocks) == 4


@pytest.mark.parametrize("recipe", ["dpo", "kto"])
def test_a_validation_loss_of_preferences_is_refused(tiny_base: Path, folder: Path, recipe: str) -> None:
    with pytest.raises(InvalidConfig, match="only sft and pretrain"):
        TrainConfig.parse(
            {
                "base": str(tiny_base),
                "recipe": recipe,
                "data": {"train": "train.jsonl"},
                "training": {"check_every_steps": 2},
            },
            folder=folder,
        )


def test_full_training_is_extracted_at_the_rank_asked(tiny_base: Path, folder: Path, tmp_path: Path) -> None:
    result = run("full", tiny_base, folder, tmp_path / "out", lora={"rank": 8, "alpha": 16.0})
    assert result.manifest.rank == 8
    assert result.adapter["exact"] > result.base["exact"] + 0.5
    losses = result.manifest.training["extraction"]
    assert set(losses) == {"base", "2", "4", "8", "16", "32", "full"}
    assert losses["base"] > losses["2"] > losses["8"] > losses["32"] > losses["full"] * 0.9
    # The adapter is what was measured at its rank, and the base below it is the base again.
    assert result.adapter["loss"] == pytest.approx(losses["8"], rel=0.02)
    assert result.base["loss"] == pytest.approx(losses["base"], rel=1e-3)
    # The whole change sat the same exam.
    assert result.figures["full"]["exact"] > result.base["exact"] + 0.5
    assert result.manifest.metrics["full.loss"] == pytest.approx(losses["full"], rel=1e-3)


@pytest.fixture(scope="module")
def halves(
    tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Registry, Path, Path]]:
    """A registry with acme/left, which knows two words, and acme/right (rsLoRA, last layer), which knows the
    other two; and a folder with each task's rows."""
    with open_registry(str(tmp_path_factory.mktemp("registry"))) as registry:
        folders = []
        for name, words, lora in (
            ("left", ("rent", "invoice"), {"rank": 8}),
            ("right", ("address", "order"), {"rank": 8, "alpha": 8.0, "rslora": True, "last_layers": 1}),
        ):
            task = tmp_path_factory.mktemp(name)
            for part, seed, count in (("train", 1, 200), ("heldout", 2, 40)):
                known = [row for row in rows(seed, count) if word_of(row) in words]
                write(task / f"{part}.jsonl", known)
            result = train(
                config(tiny_base, task, training=FAST | {"steps": 60}, lora=lora), out=task / "out"
            )
            assert result.adapter["exact"] > 0.9
            registry.publish(result.folder, AdapterName("acme", name))
            folders.append(task)
        yield registry, folders[0], folders[1]


def merged(halves: tuple[Registry, Path, Path], base: Path, out: Path, **merge: Any) -> TrainResult:
    registry, left, _ = halves
    chosen = config(
        base,
        left,
        recipe="merge",
        lora={"rank": 8},
        data={"heldout": "heldout.jsonl"},
        merge={"sources": ["acme/left@v1", "acme/right@v1"], "weights": [0.5, 2.0], **merge},
    )
    return train(chosen, out=out, parents=registry)


def wanted_sum(halves: tuple[Registry, Path, Path]) -> dict[str, Any]:
    """0.5 times the left update and 2 times the right one, where they have any."""
    registry = halves[0]
    refs = (AdapterRef.parse(f"acme/{name}@v1") for name in ("left", "right"))
    left, right = (update(registry.fetch(registry.resolve(ref))) for ref in refs)
    assert right.keys() < left.keys()
    return {name: 0.5 * change + 2.0 * right.get(name, 0.0) for name, change in left.items()}


def test_a_merge_by_cat_is_the_exact_sum_of_its_sources(
    halves: tuple[Registry, Path, Path], tiny_base: Path, tmp_path: Path
) -> None:
    result = merged(halves, tiny_base, tmp_path / "out", method="cat")
    assert result.manifest.rank == 16
    assert result.manifest.training["merged"] == ["acme/left@v1", "acme/right@v1"]
    assert result.manifest.parent is None
    changes = update(result.folder)
    for name, wanted in wanted_sum(halves).items():
        np.testing.assert_allclose(changes[name], wanted, atol=1e-5)


def test_a_merge_by_svd_is_the_best_of_its_rank(
    halves: tuple[Registry, Path, Path], tiny_base: Path, tmp_path: Path
) -> None:
    result = merged(halves, tiny_base, tmp_path / "out", method="svd")
    assert result.manifest.rank == 8
    changes = update(result.folder)
    for name, wanted in wanted_sum(halves).items():
        left, values, right = np.linalg.svd(wanted, full_matrices=False)
        best = (left[:, :8] * values[:8]) @ right[:8]
        # peft clamps the outermost values of the factors, so it is near the best, not on it.
        assert np.linalg.norm(changes[name] - best) < 0.1 * np.linalg.norm(best)


@pytest.mark.parametrize("method", ["ties", "dare"])
def test_every_other_merge_serves_at_the_rank_asked(
    halves: tuple[Registry, Path, Path], tiny_base: Path, tmp_path: Path, method: str
) -> None:
    result = merged(halves, tiny_base, tmp_path / "out", method=method)
    assert result.manifest.rank == 8
    assert not inspect(result.folder, json.loads((tiny_base / "config.json").read_text())).findings


def update(folder: Path) -> dict[str, Any]:
    """Every module's change of weights by an adapter's folder, computed from its files alone."""
    shape = json.loads((folder / "adapter_config.json").read_text())
    scale = shape["lora_alpha"] / (shape["r"] ** 0.5 if shape["use_rslora"] else shape["r"])
    tensors = load_file(folder / "adapter_model.safetensors")
    return {
        name: scale * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
        for name in tensors
        if "lora_A" in name
    }


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"recipe": "merge", "merge": {"sources": ["acme/a"]}}, "two or more"),
        (
            {"recipe": "merge", "merge": {"sources": ["acme/a", "acme/b"], "weights": [1.0]}},
            "1 weights for 2",
        ),
        ({"recipe": "merge", "merge": {"sources": ["acme/a", "b"]}}, "names no adapter"),
        ({"recipe": "sft", "data": {"heldout": "heldout.jsonl"}}, "data.train: missing"),
        ({"recipe": "full", "training": {"checkpoint_every_steps": 2}}, "writes no checkpoints"),
    ],
)
def test_a_recipe_that_lacks_what_it_needs_is_refused(
    tiny_base: Path, folder: Path, tables: dict[str, Any], said: str
) -> None:
    raw = {"base": str(tiny_base), "data": {"heldout": "heldout.jsonl"}}
    if tables["recipe"] == "full":
        raw["data"] = {"train": "train.jsonl"}
    with pytest.raises(InvalidConfig, match=said):
        TrainConfig.parse(raw | tables, folder=folder)


def questions(folder: Path) -> Path:
    for name, seed, count in (("train", 1, 60), ("heldout", 2, 16)):
        write(folder / f"{name}.jsonl", rows(seed, count))
    return folder


RL = {"steps": 12, "batch_rows": 4, "learning_rate": 5e-3, "threads": 1}


def test_rlhf_earns_more_of_a_reward_given_as_a_function(tiny_base: Path, tmp_path: Path) -> None:
    questions(tmp_path)
    (tmp_path / "reward.py").write_text(
        "def score(question, answer, expected):\n"
        "    return sum(letter.isalpha() for letter in answer) / max(len(answer), 1)\n"
    )
    chosen = config(
        tiny_base,
        tmp_path,
        recipe="rlhf",
        training=RL | {"steps": 10, "learning_rate": 2e-2},
        reward={"function": "reward.py:score", "beta": 0.0, "answers": 8},
        evaluation={"metrics": ["exact"], "max_new_tokens": 8, "forgetting": False},
    )
    result = train(chosen, out=tmp_path / "out")
    assert result.adapter["reward"] > result.base["reward"] + 0.05
    training = result.manifest.training
    assert training["last_reward"] > training["first_reward"]
    assert training["config"]["reward"]["function"] == "reward.py:score"


def test_rlhf_learns_its_reward_from_rankings(tiny_base: Path, tmp_path: Path) -> None:
    questions(tmp_path)
    ranked = [{"input": row["input"], "ranked": ["yes yes yes", "yes no", "no no no"]} for row in rows(3, 24)]
    write(tmp_path / "rankings.jsonl", ranked)
    chosen = config(
        tiny_base,
        tmp_path,
        recipe="rlhf",
        training=RL | {"steps": 2},
        reward={"rankings": "rankings.jsonl", "steps": 20},
        evaluation={"metrics": ["exact"], "max_new_tokens": 8, "forgetting": False},
    )
    result = train(chosen, out=tmp_path / "out")
    assert {"reward"} < result.adapter.keys()
    assert result.manifest.training["first_reward"] is not None
    assert not inspect(result.folder, json.loads((tiny_base / "config.json").read_text())).findings


@pytest.mark.parametrize(
    ("reward", "said"),
    [
        ({}, "name one of reward.metric"),
        ({"metric": "f1", "function": "reward.py:score"}, "name one of reward.metric"),
        ({"metric": "f2"}, "no metric 'f2'"),
        ({"function": "score"}, "must be FILE.py:NAME"),
        ({"rankings": "none.jsonl"}, "there is no file"),
        ({"function": "none.py:score"}, "there is no file"),
        ({"function": "broken.py:score"}, "fails: ZeroDivisionError"),
        ({"function": "empty.py:score"}, "has no function 'score'"),
        ({"function": "nan.py:score"}, "a score is a finite number"),
    ],
)
def test_a_reward_that_cannot_be_is_refused(
    tiny_base: Path, tmp_path: Path, reward: dict[str, Any], said: str
) -> None:
    questions(tmp_path)
    (tmp_path / "reward.py").write_text("def score(*_):\n    return 1\n")
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "nan.py").write_text("def score(*_):\n    return float('nan')\n")
    with pytest.raises(InvalidConfig, match=said):
        train(
            config(
                tiny_base, tmp_path, recipe="rlhf", data={"train": "train.jsonl"}, training=RL, reward=reward
            ),
            out=tmp_path / "out",
        )
