"""A run as one HTML page: figures, curves, answers side by side, rows, config. It stands alone: no script,
no font, no image from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from hotshoe.train.curves import Curve, plot
from hotshoe.train.result import Sample, TrainResult

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2530}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2.2rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .7rem .3rem 0;border-bottom:1px solid #dde3ea}
td.number{font-variant-numeric:tabular-nums}
pre{white-space:pre-wrap;margin:0;font-size:.85em}
.good{color:#10703c}.bad{color:#b3261e}.quiet{color:#66717d}
@media(prefers-color-scheme:dark){body{background:#14181d;color:#e3e8ee}th,td{border-color:#333c46}
.good{color:#5ecb8c}.bad{color:#ff8a80}.quiet{color:#9aa6b2}}
"""
_SAMPLES = 12


def write_report(result: TrainResult, path: Path) -> Path:
    """Write the page to `path`."""
    path.write_text(render_report(result), encoding="utf-8")
    return path


def render_report(result: TrainResult) -> str:
    """The page's HTML."""
    name = result.manifest.adapter or result.folder.name
    training = result.manifest.training
    curves = [Curve("training", list(enumerate(result.losses, start=1)))]
    if result.checks:
        curves.append(Curve("validation", [(check.step, check.loss) for check in result.checks]))
    parts = [
        f"<h1>{_text(name)}</h1>",
        f"<p class=quiet>{_text(_summary(result))}</p>",
        _section("Figures", _figures(result)),
        _section("Gates", _gates(result)),
        _section("Loss", plot(curves, marked_step=result.kept_step if result.checks else None)),
        _section("Answers", _answers(result.samples[:_SAMPLES])),
        _section("Rows", _rows(result)),
        _section("Config", f"<pre>{_text(json.dumps(training['config'], indent=2))}</pre>"),
        _section("Environment", _environment(result)),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{_text(name)}: training report</title><style>{_STYLE}</style>\n{body}\n</html>\n"
    )


def _summary(result: TrainResult) -> str:
    training = result.manifest.training
    kept = f", step {result.kept_step} kept" if result.kept_step != result.steps else ""
    parent = f" from {result.manifest.parent}" if result.manifest.parent else ""
    return (
        f"{training['recipe']}{parent} on {result.manifest.base}; {result.steps} steps{kept} "
        f"in {result.seconds:.0f} s; rank {result.manifest.rank}, alpha {result.manifest.alpha:g}"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>\n{content}" if content else ""


def _figures(result: TrainResult) -> str:
    who = [name for name in ("base", "parent", "full", "adapter") if name in result.figures]
    rows = (
        [name + (" (decides)" if name == result.main else ""), *(result.figures[w].get(name) for w in who)]
        for name in result.adapter
    )
    return _table(["held-out", *who], rows) if result.adapter else ""


def _gates(result: TrainResult) -> str:
    rows = (
        [gate.gate, gate.value, gate.limit, _mark("passed" if gate.passed else "failed", good=gate.passed)]
        for gate in result.gates
    )
    return _table(["gate", "value", "limit", "result"], rows) if result.gates else ""


def _answers(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    who = list(samples[0].answers)
    rows = (
        [
            _pre(sample.prompt),
            _pre(sample.expected),
            *(
                _mark(_pre(answer), good=answer.strip() == sample.expected.strip())
                for answer in sample.answers.values()
            ),
        ]
        for sample in samples
    )
    return _table(["asked", "expected", *who], rows)


def _rows(result: TrainResult) -> str:
    data = result.manifest.training["data"]
    names = ["rows", "skipped", "tokens", "learned_tokens", "longest", "sha256"]
    heads = [name.replace("_", " ") for name in names]
    table = _table(["part", *heads], ([part, *(facts[n] for n in names)] for part, facts in data.items()))
    notes = "".join(f"<li>{_text(f'{note.code.lower()}: {note}')}</li>" for note in result.notes)
    return table + (f"<ul>{notes}</ul>" if notes else "<p>No duplicates, leaks or secrets were found.</p>")


def _environment(result: TrainResult) -> str:
    training = result.manifest.training
    rows = [[name, version] for name, version in training["libraries"].items()]
    keys = ("dtype", "learning_rate", "trainable_parameters", "chat_template_sha256", "inputs_sha256")
    return _table(["what", "value"], [*rows, *([key, training[key]] for key in keys)])


class _Html(str):
    """Text that is HTML already."""


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, _Html):
        return f"<td>{value}</td>"
    if isinstance(value, float):
        return f"<td class=number>{value:.4g}</td>"
    if isinstance(value, int):
        return f"<td class=number>{value:,}</td>"
    return f"<td>{'' if value is None else _text(str(value))}</td>"


def _mark(text: str, *, good: bool) -> _Html:
    inner = text if isinstance(text, _Html) else _text(text)
    return _Html(f"<span class={'good' if good else 'bad'}>{inner}</span>")


def _pre(text: str) -> _Html:
    return _Html(f"<pre>{_text(text)}</pre>")


def _text(text: str) -> str:
    return html.escape(text)
