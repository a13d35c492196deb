from __future__ import annotations

import math

import pytest

from hotshoe.train.gates import Gate

FIGURES = {"adapter": {"f1": 0.8, "loss": 0.5}, "base": {"f1": 0.2, "loss": 2.0}, "parent": {"f1": 0.85}}


@pytest.mark.parametrize(
    ("text", "limit", "passed"),
    [
        ("f1 >= 0.8", 0.8, True),
        ("f1 > 0.8", 0.8, False),
        ("f1 >= base + 0.05", 0.25, True),
        ("f1>=base+0.7", 0.9, False),
        ("f1 >= parent - 0.1", 0.75, True),
        ("f1 >= parent", 0.85, False),
        ("loss < base", 2.0, True),
        ("loss <= -1", -1.0, False),
    ],
)
def test_a_gate_is_judged_by_the_figures(text: str, limit: float, passed: bool) -> None:
    result = Gate.parse(text).judge(FIGURES)
    assert result.limit == pytest.approx(limit)
    assert result.passed is passed


@pytest.mark.parametrize(
    "text", ["", "f1", "f1 = 1", "f1 >= mother", "f1 >= base * 2", "f1 >= base + -1", "F1 > 1"]
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write one like"):
        Gate.parse(text)


@pytest.mark.parametrize("text", ["f1 >= base + 0.05", "loss <= 2", "f1 > parent - 0.1", "f1 < base"])
def test_a_gate_is_written_as_it_is_read(text: str) -> None:
    assert str(Gate.parse(text)) == text


def test_a_figure_that_was_not_measured_fails_its_gate() -> None:
    result = Gate.parse("loss <= parent").judge(FIGURES)
    assert not result.passed
    assert math.isnan(result.limit)
    assert result.facts() == {"gate": "loss <= parent", "value": 0.5, "limit": None, "passed": False}
