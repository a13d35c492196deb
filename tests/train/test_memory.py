"""Running out of memory is told as that, with the knobs that a recipe has and that are not turned yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.routing import config

from hotshoe.adapter.errors import Refused
from hotshoe.train.batch import Batch
from hotshoe.train.memory import knobs, memory_explained

RECOMPUTE = "set training.recompute = true"
HALVE = "halve training.batch_rows and double training.accumulate_batches (the same steps)"
LAYERS, BITS, ROWS = "lower lora.last_layers", 'set quantize = "nf4"', "leave out the longest rows"
DRAWN = "lower evaluation.max_new_tokens, which is how long an answer may get, or reward.answers"


@pytest.mark.parametrize(
    ("tables", "rows", "held", "turned"),
    [
        ({}, 4, "4 rows", [RECOMPUTE, HALVE, LAYERS, BITS, ROWS]),
        # A run that went row by row already has nothing left to halve.
        ({"training": {"recompute": True}}, 1, "1 rows", [LAYERS, BITS, ROWS]),
        ({"quantize": "nf4"}, 2, "2 rows", [RECOMPUTE, HALVE, LAYERS, ROWS]),
        ({"lora": {"init": "pissa"}}, 2, "2 rows", [RECOMPUTE, HALVE, LAYERS, ROWS]),
        ({"recipe": "full"}, 2, "2 rows", [RECOMPUTE, HALVE, LAYERS, ROWS]),
        ({"parent": "acme/router@v1", "recipe": "dpo"}, 2, "2 pairs", [RECOMPUTE, HALVE, BITS, ROWS]),
        (
            {"recipe": "kto"},
            4,
            "4 rows",
            [RECOMPUTE, HALVE.replace("the same steps", "it compares fewer rows then"), LAYERS, BITS, ROWS],
        ),
        ({"recipe": "kto"}, 2, "2 rows", [RECOMPUTE, LAYERS, BITS, ROWS]),
        (
            {"recipe": "rlhf", "reward": {"metric": "f1", "answers": 6}},
            2,
            "2 questions, 6 answers each,",
            [RECOMPUTE, DRAWN, HALVE, LAYERS, BITS, ROWS],
        ),
    ],
)
def test_the_knobs_are_those_that_there_are(
    tiny_base: Path, folder: Path, tables: dict[str, Any], rows: int, held: str, turned: list[str]
) -> None:
    said = knobs(config(tiny_base, folder, **tables), Batch(rows, 1), longest=300)
    assert said == f"with {held} of up to 300 tokens at once: {', then '.join(turned)}"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        RuntimeError("could not create a primitive"),
    ],
    ids=["Python", "torch", "oneDNN"],
)
def test_memory_that_is_not_there_is_told_as_that_whoever_finds_it(error: Exception) -> None:
    with pytest.raises(Refused, match="out of memory with less"), memory_explained("with less"):
        raise error


def test_what_has_nothing_to_do_with_memory_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_explained("with less"):
        raise RuntimeError("shapes do not fit")
