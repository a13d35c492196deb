"""Metrics that a config defines itself: patterns, JSON schemas, Python functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.routing import write_task

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.config import TrainConfig
from hotshoe.train.exam_section import EvaluationConfig
from hotshoe.train.facts import inputs_digest
from hotshoe.train.scores import Score, mean, scores_for

TICKET = {
    "type": "object",
    "properties": {"urgency": {"enum": ["low", "high"]}, "order": {"type": ["integer", "null"]}},
    "required": ["urgency"],
}


def scores(folder: Path, **evaluation: Any) -> dict[str, Score]:
    return scores_for(EvaluationConfig.model_validate(evaluation, context={"folder": folder}))


def test_figures_are_means_over_the_rows(tmp_path: Path) -> None:
    told = [("", "a b", "a b"), ("", "cat", "dog")]
    assert {name: mean(score, told) for name, score in scores(tmp_path).items()} == {"exact": 0.5, "f1": 0.5}


def test_a_pattern_is_found_or_not(tmp_path: Path) -> None:
    polite = scores(tmp_path, patterns={"polite": r"(?i)\bthank you\b"})["polite"]
    assert (polite("", "Well, Thank you!", ""), polite("", "thanks", "")) == (1, 0)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ('{"urgency": "low"}', 1),
        ('{"urgency": "low", "order": 7}', 1),
        ('{"urgency": "soon"}', 0),
        ('{"urgency": "low", "order": "7"}', 0),
        ('["low"]', 0),
        ("urgency: low", 0),
        ("[" * 100_000, 0),
    ],
)
def test_an_answer_satisfies_its_schema_or_not(tmp_path: Path, answer: str, right: int) -> None:
    (tmp_path / "ticket.json").write_text(json.dumps(TICKET))
    assert scores(tmp_path, schemas={"ticket": "ticket.json"})["ticket"]("", answer, "") == right


@given(answer=st.text())
def test_any_text_is_held_against_a_schema(answer: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(TICKET))
    assert scores(path.parent, schemas={"any": "any.json"})["any"]("", answer, "") in (0, 1)


@pytest.mark.parametrize("text", ["{", '{"type": "objekt"}', "[]", "7"])
def test_what_is_no_schema_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(InvalidConfig, match=r"bad\.json is no JSON Schema"):
        scores(tmp_path, schemas={"bad": "bad.json"})


def test_a_schema_fetches_nothing(tmp_path: Path) -> None:
    (tmp_path / "far.json").write_text('{"$ref": "http://127.0.0.1:9/ticket.json"}')
    far = scores(tmp_path, schemas={"far": "far.json"})["far"]
    with pytest.raises(InvalidConfig, match="does not stand in it"):
        far("", "{}", "")


def test_a_function_sees_question_answer_and_expected(tmp_path: Path) -> None:
    (tmp_path / "score.py").write_text("def all(*texts):\n    return sum(map(len, texts))\n")
    assert scores(tmp_path, functions={"all": "score.py:all"})["all"]("a", "bb", "ccc") == 6


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "fails: ZeroDivisionError"),
        ("x = 1", "has no function 'score'"),
        ("def score(*_): return 'much'", "fails on 'a': ValueError"),
        ("def score(*_): return float('inf')", "a score is a finite number"),
    ],
)
def test_a_function_that_cannot_score_is_refused(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "score.py").write_text(code)
    with pytest.raises(InvalidConfig, match=said):
        scores(tmp_path, functions={"tone": "score.py:score"})["tone"]("q", "a", "e")


def test_a_changed_function_is_another_run_and_its_folder_is_not(tiny_base: Path, tmp_path: Path) -> None:
    from hotshoe.registry.base import fetch_base

    def digest(place: str, code: str) -> str:
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        write_task(folder)
        (folder / "score.py").write_text(code)
        raw: dict[str, Any] = {"base": str(tiny_base), "data": {"train": "train.jsonl"}}
        config = TrainConfig.parse(
            raw | {"evaluation": {"functions": {"tone": "score.py:score"}}}, folder=folder
        )
        return inputs_digest(config, fetch_base(config.base).base, {}, ())

    assert digest("here", "x = 1") == digest("there", "x = 1") != digest("here", "x = 2")
