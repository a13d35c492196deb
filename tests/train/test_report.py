from __future__ import annotations

import dataclasses
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotshoe.train.audit import Note
from hotshoe.train.checks import Check
from hotshoe.train.gates import Gate
from hotshoe.train.plots import Curve, Panel, draw
from hotshoe.train.report import draw_run, render_report
from hotshoe.train.result import TrainResult


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the open one; `html`'s own end is optional."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.metas = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.metas += tag == "meta"
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


TABLE = {"table", "tr", "th", "td"}
TAGS = {"html", "meta", "title", "style", "h1", "h2", "p", "ul", "li", "img", "span", "pre"} | TABLE
PNG = b"\x89PNG\r\n\x1a\n"


def rendered(result: TrainResult, examples: int = 12) -> str:
    return render_report(result, draw_run(result), examples=examples)


def test_the_page_tells_figures_answers_rows_and_environment(result: TrainResult) -> None:
    page = result.report.read_text()
    for word in (
        "acme/router",
        "exact (decides)",
        "forgetting",
        result.samples[0].expected,
        "200",
        "torch",
        "inputs_sha256",
        "data:image/png",
    ):
        assert word in page
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []


def test_page_and_plot_are_files_of_the_version(result: TrainResult) -> None:
    listed = {entry.path for entry in result.manifest.files}
    assert {".hotshoe/report.html", ".hotshoe/report.png"} < listed
    assert (result.folder / ".hotshoe" / "report.png").read_bytes().startswith(PNG)


def test_the_page_needs_nothing_from_elsewhere(result: TrainResult) -> None:
    page = rendered(result)
    for word in ("http:", "https:", "<script", "@import", "url("):
        assert word not in page
    assert page.count("src=") == page.count('src="data:image/png;base64,') == 1
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "said",
    [
        "<script>alert(1)</script>",
        "</pre></table><img src=x onerror=alert(1)>",
        '"><meta http-equiv=refresh content="0;url=http://evil">',
        "</title></style><!--",
        "\0\u202e&lt;",
    ],
)
def test_what_rows_and_models_say_is_never_markup(result: TrainResult, said: str) -> None:
    sample = dataclasses.replace(
        result.samples[0], prompt=said, expected=said, answers={"base": said, "adapter": said}
    )
    note = Note("SECRET", said, said)
    manifest = dataclasses.replace(result.manifest, adapter=said)
    hostile = dataclasses.replace(result, samples=(sample,), notes=(note,), manifest=manifest)
    page = Balanced()
    page.feed(rendered(hostile))
    assert page.open == []
    assert page.seen <= TAGS
    assert page.metas == 3


def test_a_config_says_how_many_held_out_rows_stand_on_the_page(result: TrainResult) -> None:
    assert "<h2>Answers" in rendered(result, examples=1)
    assert "<h2>Answers" not in rendered(result, examples=0)


def test_gates_and_checks_stand_in_the_page(result: TrainResult) -> None:
    gates = (
        Gate.parse("exact >= base + 0.5").judge(result.figures),
        Gate.parse("loss < 0").judge(result.figures),
    )
    checks = (Check(10, 2.0), Check(20, 1.0))
    checked = dataclasses.replace(result, gates=gates, checks=checks)
    page = rendered(checked)
    assert "passed" in page
    assert "failed" in page
    assert draw_run(checked) != draw_run(result)


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(allow_nan=True)), max_size=30), st.booleans())
def test_any_curve_can_be_drawn(points: list[tuple[float, float]], logarithmic: bool) -> None:
    curve = Curve("loss", sorted(points, key=lambda point: point[0]))
    drawn = draw([Panel("loss", "step", [curve], logarithmic=logarithmic, marked=3)])
    assert drawn == b"" or drawn.startswith(PNG)


def test_the_same_curves_are_the_same_bytes() -> None:
    panels = [Panel("loss", "step", [Curve("loss", [(step, 1 / step) for step in range(1, 5000)])])]
    assert draw(panels) == draw(panels)


@pytest.mark.parametrize("points", [[], [(1, float("nan"))], [(1, 0.0)]])
def test_a_curve_without_points_is_not_drawn(points: list[tuple[float, float]]) -> None:
    assert draw([Panel("loss", "step", [Curve("loss", points)])]) == b""
