"""What the terminal, or a machine, is told of a run that has ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hotshoe.cli.verb import print_json, print_table, printable

if TYPE_CHECKING:
    from hotshoe.adapter.version import Version
    from hotshoe.train.config import TrainConfig
    from hotshoe.train.result import Sample, TrainResult
    from hotshoe.train.sweep import Trial

_SAMPLES, _NOTES, _LINE = 2, 4, 96


def print_outcome(
    trials: list[Trial],
    chosen: TrainConfig,
    version: Version | None,
    swept: Path | None,
    *,
    as_json: bool,
) -> None:
    """Show the best of the trials, and how the others did.

    version: what was published of it. swept: where the trials of a sweep are; None after a single run.
    """
    from hotshoe.train.sweep import PAGE, compare

    told = str(version) if version else None
    if as_json:
        shown = _result_json(best(trials)) | {"version": told}
        print_json(shown | ({"trials": _trials_json(trials)} if swept else {}))
        return
    if swept:
        heads, rows = compare(trials)
        print_table(f"trials: {len(trials)}, the best first", heads, rows)
        typer.echo(f"compared in {swept / PAGE}")
    _print_result(best(trials), chosen, told)


def best(trials: Sequence[Trial]) -> TrainResult:
    """The result of the first trial, which is the best one."""
    result = trials[0].result
    # A sweep of which no trial came to an end raises.
    assert result is not None
    return result


def _result_json(result: TrainResult) -> dict[str, Any]:
    from hotshoe.train.advice import advice

    return {
        "folder": result.folder,
        "metric": result.main,
        "base": result.base,
        "adapter": result.adapter,
        "steps": result.steps,
        "loss": result.losses[-1] if result.losses else None,
        "gates": [gate.facts() for gate in result.gates],
        "advice": list(advice(result)),
        "seconds": round(result.seconds, 1),
    }


def _trials_json(trials: list[Trial]) -> list[dict[str, Any]]:
    return [
        {
            "changes": trial.changes,
            "folder": trial.result and trial.result.folder,
            "adapter": trial.result and trial.result.adapter,
            "failure": trial.failure or None,
        }
        for trial in trials
    ]


def _print_result(result: TrainResult, config: TrainConfig, version: str | None) -> None:
    from hotshoe.cli.reporting import print_figures, print_gates
    from hotshoe.train.advice import advice

    print_figures("held-out rows", result.figures, result.main)
    print_gates([gate.facts() for gate in result.gates])
    for sentence in advice(result):
        typer.echo(f"advice: {printable(sentence)}")
    for note in result.notes[:_NOTES]:
        typer.echo(f"{note.code.lower()}: {printable(str(note))}")
    if len(result.notes) > _NOTES:
        typer.echo(f"and {len(result.notes) - _NOTES} more notes on the rows, in the report")
    for sample in result.samples[:_SAMPLES]:
        typer.echo(_side_by_side(sample))
    typer.echo(f"{result.steps} steps in {result.seconds:.0f} s -> {result.folder}")
    typer.echo(f"report: {result.report}")
    if version:
        typer.echo(f"published {version}")
    else:
        name = config.adapter or "org/name"
        typer.echo(f"next: hotshoe publish {result.folder} --as {name}")


def _side_by_side(sample: Sample) -> str:
    """A held-out question with what was expected and answered, a line each, cut to the terminal's width."""
    lines = {"asked": sample.prompt, "expected": sample.expected, **sample.answers}
    shown = (f"  {name:9} {_one_line(text)}" for name, text in lines.items())
    return "\n".join([sample.where, *shown])


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LINE else f"{line[: _LINE - 3]}..."
