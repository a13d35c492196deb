"""A run for people: figures, curves, answers side by side, rows, config, on one HTML page and in one PNG.

Both are functions of what the run made and of nothing else, time included, so the same run writes the same
bytes, and they are stored with the version.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from hotshoe.train.advice import advice
from hotshoe.train.page import Html, mark, page, picture, pre, section, table, text
from hotshoe.train.plots import Curve, Panel, draw
from hotshoe.train.result import Sample, TrainResult


def draw_run(result: TrainResult) -> bytes:
    """The run's curves as a PNG: losses, rewards, what an extraction costs; empty without any."""
    steps = [Curve("training", list(enumerate(result.losses, start=1)))]
    steps.append(Curve("validation", [(check.step, check.loss) for check in result.checks]))
    rewards = [Curve("mean of the answers", list(enumerate(result.rewards, start=1)))]
    extraction = result.manifest.training["extraction"]
    ranks = sorted((int(rank), loss) for rank, loss in extraction.items() if rank.isdigit())
    bounds = [
        Curve(name, [(ranks[0][0], extraction[name]), (ranks[-1][0], extraction[name])])
        for name in ("base", "full")
        if name in extraction
    ]
    return draw(
        [
            Panel("loss", "step", steps, marked=result.kept_step if result.checks else None),
            Panel("reward", "step", rewards, logarithmic=False),
            Panel("held-out loss of the extract", "rank", [Curve("extract", ranks), *bounds]),
        ]
    )


def render_report(result: TrainResult, plot: bytes, *, examples: int) -> str:
    """The page's HTML. plot: what `draw_run` drew. examples: how many held-out rows stand on it at most."""
    name = result.manifest.adapter or result.folder.name
    config = json.dumps(result.manifest.training["config"], indent=2)
    return page(
        f"{name}: training report",
        [
            f"<h1>{text(name)}</h1>",
            f"<p class=quiet>{text(_summary(result))}</p>",
            section("Figures", _figures(result)),
            section("Gates", _gates(result)),
            section("Advice", _advice(result)),
            section("Curves", picture(plot, "loss by step")),
            section("Answers", _answers(result.samples[:examples])),
            section("Rows", _rows(result)),
            section("Config", pre(config)),
            section("Environment", _environment(result)),
        ],
    )


def _summary(result: TrainResult) -> str:
    training = result.manifest.training
    kept = f", step {result.kept_step} kept" if result.kept_step != result.steps else ""
    parent = f" from {result.manifest.parent}" if result.manifest.parent else ""
    return (
        f"{training['recipe']}{parent} on {result.manifest.base}; {result.steps} steps{kept}; "
        f"rank {result.manifest.rank}, alpha {result.manifest.alpha:g}"
    )


def _figures(result: TrainResult) -> Html:
    who = [name for name in ("base", "parent", "full", "adapter") if name in result.figures]
    rows = (
        [name + (" (decides)" if name == result.main else ""), *(result.figures[w].get(name) for w in who)]
        for name in result.adapter
    )
    return table(["held-out", *who], rows) if result.adapter else Html()


def _gates(result: TrainResult) -> Html:
    rows = (
        [gate.gate, gate.value, gate.limit, mark("passed" if gate.passed else "failed", good=gate.passed)]
        for gate in result.gates
    )
    return table(["gate", "value", "limit", "result"], rows) if result.gates else Html()


def _advice(result: TrainResult) -> Html:
    sentences = "".join(f"<li>{text(sentence)}</li>" for sentence in advice(result))
    return Html(f"<ul>{sentences}</ul>" if sentences else "")


def _answers(samples: Sequence[Sample]) -> Html:
    if not samples:
        return Html()
    who = list(samples[0].answers)
    rows = (
        [
            pre(sample.prompt),
            pre(sample.expected),
            *(
                mark(pre(answer), good=answer.strip() == sample.expected.strip())
                for answer in sample.answers.values()
            ),
        ]
        for sample in samples
    )
    return table(["asked", "expected", *who], rows)


def _rows(result: TrainResult) -> Html:
    data = result.manifest.training["data"]
    names = ["rows", "skipped", "tokens", "learned_tokens", "longest", "sha256"]
    heads = [name.replace("_", " ") for name in names]
    parts = table(["part", *heads], ([part, *(facts[n] for n in names)] for part, facts in data.items()))
    notes = "".join(f"<li>{text(f'{note.code.lower()}: {note}')}</li>" for note in result.notes)
    return Html(
        parts + (f"<ul>{notes}</ul>" if notes else "<p>No duplicates, leaks or secrets were found.</p>")
    )


def _environment(result: TrainResult) -> Html:
    training = result.manifest.training
    rows = [[name, version] for name, version in training["libraries"].items()]
    keys = ("dtype", "learning_rate", "trainable_parameters", "chat_template_sha256", "inputs_sha256")
    return table(["what", "value"], [*rows, *([key, training[key]] for key in keys)])
