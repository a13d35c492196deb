from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotshoe.train.checks import Check
from hotshoe.train.curves import Curve, plot
from hotshoe.train.gates import Gate
from hotshoe.train.report import render_report, write_report
from hotshoe.train.result import TrainResult


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the open one; `html`'s own end is optional."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_tells_figures_answers_rows_and_environment(result: TrainResult, tmp_path: Path) -> None:
    page = write_report(result, tmp_path / "report.html").read_text()
    for word in (
        "acme/router",
        "exact (decides)",
        "forgetting",
        result.samples[0].expected,
        "200",
        "torch",
        "inputs_sha256",
    ):
        assert word in page
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []


def test_the_page_needs_nothing_from_elsewhere(result: TrainResult) -> None:
    page = render_report(result)
    for word in ("http:", "https:", "src=", "<script", "@import", "url("):
        assert word not in page


def test_what_a_model_says_is_never_markup(result: TrainResult) -> None:
    said = dataclasses.replace(result.samples[0], answers={"base": "<script>alert(1)</script>"})
    page = render_report(dataclasses.replace(result, samples=(said,)))
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_gates_and_checks_stand_in_the_page(result: TrainResult) -> None:
    gates = (
        Gate.parse("exact >= base + 0.5").judge(result.figures),
        Gate.parse("loss < 0").judge(result.figures),
    )
    checks = (Check(10, 2.0), Check(20, 1.0))
    page = render_report(dataclasses.replace(result, gates=gates, checks=checks))
    assert "passed" in page
    assert "failed" in page
    assert "validation" in page


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(allow_nan=True)), max_size=30))
def test_any_curve_can_be_drawn(points: list[tuple[int, float]]) -> None:
    drawn = plot([Curve("loss", sorted(points, key=lambda point: point[0]))], marked_step=3)
    assert drawn == "" or drawn.startswith("<svg")
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_a_long_curve_keeps_its_last_point() -> None:
    drawn = plot([Curve("loss", [(step, 1 / step) for step in range(1, 5000)])])
    assert len(drawn) < 20_000
    assert drawn.count("step 4,999") == 1


@pytest.mark.parametrize("points", [[], [(1, float("nan"))], [(1, 0.0)]])
def test_a_curve_without_points_is_not_drawn(points: list[tuple[int, float]]) -> None:
    assert plot([Curve("loss", points)]) == ""
