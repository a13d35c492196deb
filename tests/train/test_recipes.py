"""Every recipe learns something on the tiny base, and leaves an adapter that serves."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support.routing import OPENINGS, PARTNERS, config, rows, write

from hotshoe.adapter.errors import InvalidConfig, InvalidData
from hotshoe.registry.inspect import inspect
from hotshoe.train.config import TrainConfig
from hotshoe.train.pretrain import collate, pack
from hotshoe.train.quiet import quiet
from hotshoe.train.result import TrainResult
from hotshoe.train.run import train
from hotshoe.train.tokens import NO_LOSS, Encoded

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


def test_no_document_sees_the_one_before_it_in_its_block(tiny_base: Path) -> None:
    import torch

    from hotshoe.train.machine import Machine
    from hotshoe.train.model import load_base

    with quiet():
        model = load_base(tiny_base, Machine("cpu", "float32", 1)).eval()
    first, second = [7, 8, 9, 10, 11], [20, 21, 22]
    row = {
        "input_ids": first + second,
        "labels": [NO_LOSS] * 8,
        "position_ids": [0, 1, 2, 3, 4, 0, 1, 2],
    }
    batch = collate(
        [row, {**row, "input_ids": second + first, "position_ids": [0, 1, 2, 0, 1, 2, 3, 4]}], pad=0
    )
    with torch.inference_mode():
        packed = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
        alone = model(input_ids=torch.tensor([second])).logits
    torch.testing.assert_close(packed[0, 5:], alone[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(packed[1, :3], alone[0], atol=1e-4, rtol=1e-4)


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
