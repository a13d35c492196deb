"""A run that went wrong says what to turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hotshoe.train.advice import advice
from hotshoe.train.checks import Check
from hotshoe.train.report import draw_run, render_report
from hotshoe.train.result import TrainResult

GOOD = {"exact": 0.9, "ended": 1.0, "loss": 0.3, "forgetting": 0.1}


def with_adapter(result: TrainResult, changes: dict[str, float], **fields: Any) -> TrainResult:
    figures = {"base": {"exact": 0.2, "loss": 2.0}, "adapter": GOOD | changes}
    return replace(result, figures=figures, **fields)


def test_a_run_that_went_well_is_told_nothing(result: TrainResult) -> None:
    assert list(advice(with_adapter(result, {}))) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"forgetting": 0.6}, "answers to everyday questions moved far"),
        ({"forgetting": 2.9}, "are another model's"),
        ({"forgetting": 2.9}, "training.learning_rate = 0.003"),
        ({"ended": 0.5}, "evaluation.max_new_tokens"),
        ({"exact": 0.2}, "exact is no better than the base's"),
    ],
)
def test_a_figure_to_mend_comes_with_its_key(
    result: TrainResult, changes: dict[str, float], said: str
) -> None:
    assert result.manifest.training["learning_rate"] == 1e-2
    (sentence,) = advice(with_adapter(result, changes))
    assert said in sentence


def test_of_a_loss_less_is_better(result: TrainResult) -> None:
    assert list(advice(with_adapter(result, {"loss": 0.3}, main="loss"))) == []
    (sentence,) = advice(with_adapter(result, {"loss": 2.5}, main="loss"))
    assert "loss is no better" in sentence


def test_a_best_check_before_the_end_is_told(result: TrainResult) -> None:
    checked = with_adapter(result, {}, checks=(Check(20, 1.0), Check(60, 1.5)), kept_step=20)
    (sentence,) = advice(checked)
    assert "rose after step 20 of 60" in sentence


def test_the_report_says_it_too(result: TrainResult) -> None:
    page = render_report(with_adapter(result, {"forgetting": 2.9}), draw_run(result), examples=0)
    assert "everyday questions are another model" in page
