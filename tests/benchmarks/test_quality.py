"""The rows that benchmarks/quality learns from are what its page says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.cells import Stopwatch
from benchmarks.quality.corpus import Function, functions
from benchmarks.quality.preference import keeps_the_rule, rankings
from benchmarks.quality.tasks import TASKS

DOCUMENTATION = """Do it.

Parameters
----------
weight : string or None, optional (default='weight')
    The edge's weight.
copy : bool, default True
    Copy first.
axis : int, optional
    Where.
G : graph
    Any graph.

Returns
-------
result : float
    It.
"""


def rows(folder: Path, part: str) -> list[dict[str, Any]]:
    lines = TASKS["summary"].path(folder, part).read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    TASKS["summary"].write(folder)
    return folder


def test_no_file_of_a_library_gives_rows_to_both_parts(folder: Path) -> None:
    task = TASKS["summary"]
    modules: dict[str, set[tuple[str, str]]] = {}
    for library in task.groups:
        for module, row in task.rows(functions(library)):
            modules.setdefault(row["input"], set()).add((library, module))
    only = {question: places for question, places in modules.items() if len(places) == 1}
    trained, held = (
        set().union(*(only.get(row["input"], set()) for row in rows(folder, part)))
        for part in ("train", "heldout")
    )
    assert len(trained) > 20
    assert len(held) > 5
    assert trained.isdisjoint(held)


def test_the_same_rows_are_drawn_every_time(folder: Path, tmp_path: Path) -> None:
    TASKS["summary"].write(tmp_path)
    assert rows(tmp_path, "train") == rows(folder, "train")
    assert len(rows(folder, "train")) == TASKS["summary"].train
    assert len(rows(folder, "heldout")) == TASKS["summary"].heldout


def test_an_entry_of_numpydoc_is_read_into_its_fields() -> None:
    function = Function("numpy", "a.py", "do(weight)", DOCUMENTATION)
    found = [json.loads(row["output"]) for _, row in TASKS["parameters"].rows([function])]
    assert found == [
        {"name": "weight", "type": "string or None", "optional": True, "default": "weight"},
        {"name": "copy", "type": "bool", "optional": True, "default": "True"},
        {"name": "axis", "type": "int", "optional": True, "default": None},
        {"name": "G", "type": "graph", "optional": False, "default": None},
    ]


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("Returns the degree of a node.", True),
        ("Return the degree of a node.", False),
        ("Returns the degree of a node", False),
        ("Returns the degree.\nReturns it again.", False),
        ("This function returns the degree.", False),
        ("", False),
    ],
)
def test_the_rule_asks_for_one_description_that_ends_in_a_period(answer: str, kept: bool) -> None:
    assert keeps_the_rule(answer) is kept


def test_of_a_ranking_the_first_answer_alone_keeps_the_rule(folder: Path) -> None:
    found = list(rankings(TASKS["summary"].path(folder, "train")))
    assert len(found) > 100
    for _, answers in found:
        assert [keeps_the_rule(answer) for answer in answers] == [True, False, False]


def test_only_the_stages_that_train_are_timed() -> None:
    watch = Stopwatch()
    watch.stage("Ask the base")
    assert (watch.seconds, watch.gib) == (0.0, 0.0)
    watch.stage("Train")
    squares = sum(number * number for number in range(300_000))
    watch.stage("Ask the adapter")
    timed = watch.seconds
    assert squares > 0
    assert timed > 0
    assert 0 < watch.gib < 16
    watch.stop()
    assert watch.seconds == timed
