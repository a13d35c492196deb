"""The verb that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.cli.verb import (
    ActorOption,
    JsonOption,
    RegistryOption,
    default_actor,
    print_json,
    print_table,
    printable,
    require,
    verb,
)

if TYPE_CHECKING:
    from hotshoe.adapter.version import Version
    from hotshoe.registry import Registry
    from hotshoe.train.config import TrainConfig
    from hotshoe.train.result import Sample, TrainResult
    from hotshoe.train.sweep import Trial

_SAMPLES, _NOTES, _LINE = 2, 4, 96


@verb
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="What to train; see docs/training.md.")
    ],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=V1,V2]...", help="More keys for --sweep.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Where the adapter goes. Default: a new one under runs/."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as training.steps=40."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only tell rows, tokens, parameters, memory, time; train nothing.")
    ] = False,
    skip_bad: Annotated[
        bool,
        typer.Option("--skip-bad", help="Go on without unusable rows; they go to NAME.rejects.jsonl."),
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep", metavar="KEY=V1,V2", help="Run every combination, best first, as lr=1e-4,2e-4."
        ),
    ] = None,
    if_changed: Annotated[
        bool,
        typer.Option("--if-changed", help="Do nothing where the newest version has this config and data."),
    ] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish the adapter under the config's [publish] as.")
    ] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="What is new in the version.")] = "",
    actor: ActorOption = "",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an adapter, measure it against the base on held-out rows, and package it for serving.

    A run whose config has training.checkpoint_every_steps goes on where it was if it is started again.
    """
    require("torch", "transformers", "peft", "trl", "datasets", "accelerate", extra="train")
    from hotshoe.adapter.errors import InvalidConfig
    from hotshoe.registry import open_registry
    from hotshoe.train.config import TrainConfig
    from hotshoe.train.sweep import PAGE, Trial, compare, parse_grid
    from hotshoe.train.sweep import sweep as run_sweep

    if more and not sweep:
        raise InvalidConfig(f"{' '.join(more)} follows no --sweep: override a key with --set KEY=VALUE")
    grid = [*(sweep or ()), *(more or ())]
    fixed = _overrides(changes or [])
    chosen = TrainConfig.read(config, fixed)
    if publish and chosen.adapter is None:
        raise InvalidConfig(f'{config} names no adapter to publish: add [publish] as = "org/name"')
    if grid and (plan or if_changed):
        raise InvalidConfig(f"{'--plan' if plan else '--if-changed'} is about one run: leave --sweep out")
    if plan:
        _print_plan(chosen, registry, skip_bad=skip_bad, as_json=as_json)
        return
    folder = out or _new_folder(config, chosen)
    with open_registry(registry) as opened:
        if if_changed and (same := _published(chosen, opened)):
            _print_unchanged(same, as_json=as_json)
            return
        with _training(opened, skip_bad=skip_bad) as run:
            if grid:
                trials = run_sweep(config, parse_grid(grid), run, folder, fixed)
            else:
                trials = [Trial({}, run(chosen, folder))]
        result, version = trials[0].result, None
        assert result is not None
        if publish and chosen.adapter is not None:
            version = opened.publish(
                result.folder, chosen.adapter, actor=actor or default_actor(), message=message
            )
    told = str(version) if version else None
    if as_json:
        print_json(
            _result_json(result) | {"version": told} | ({"trials": _trials_json(trials)} if grid else {})
        )
        return
    if grid:
        heads, rows = compare(trials)
        print_table(f"trials: {len(trials)}, the best first", heads, rows)
        typer.echo(f"compared in {folder / PAGE}")
    _print_result(result, chosen, told)


@contextmanager
def _training(registry: Registry, *, skip_bad: bool) -> Iterator[Callable[[TrainConfig, Path], TrainResult]]:
    """Runs with bars on the terminal, and parents from the registry."""
    from hotshoe.train.progress import Terminal
    from hotshoe.train.run import train as run

    with Terminal() as progress:
        yield lambda config, out: run(config, out=out, parents=registry, skip_bad=skip_bad, progress=progress)


def _new_folder(config: Path, chosen: TrainConfig) -> Path:
    """A folder under runs/: that of a run that was killed and can go on, or a new one."""
    from hotshoe.adapter.errors import InvalidConfig
    from hotshoe.train.processes import processes
    from hotshoe.train.scratch import unfinished

    if processes().count > 1:
        raise InvalidConfig("several processes must write to one folder: name it with --out")
    runs = Path("runs")
    goes_on = unfinished(runs, config.stem) if chosen.training.checkpoint_every_steps else None
    return goes_on or runs / f"{config.stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _published(config: TrainConfig, registry: Registry) -> Version | None:
    from hotshoe.adapter.errors import AdapterNotFound, InvalidConfig
    from hotshoe.train.unchanged import unchanged

    if config.adapter is None:
        raise InvalidConfig('--if-changed compares with a published version: add [publish] as = "org/name"')
    try:
        state = registry.show(config.adapter)
    except AdapterNotFound:
        return None
    return unchanged(config, registry, [each.version.number for each in state.versions])


def _print_unchanged(version: Version, *, as_json: bool) -> None:
    if as_json:
        print_json({"version": str(version), "changed": False})
    else:
        typer.echo(f"{version} has this config and data already: nothing to train")


def _print_plan(config: TrainConfig, registry: str | None, *, skip_bad: bool, as_json: bool) -> None:
    from rich.console import Console

    from hotshoe.registry import open_registry
    from hotshoe.train.plan import plan
    from hotshoe.train.show import print_plan

    with open_registry(registry) as opened:
        made = plan(config, parents=opened, skip_bad=skip_bad)
    if as_json:
        print_json(made)
    else:
        print_plan(made, Console())


def _overrides(changes: list[str]) -> dict[str, str]:
    pairs = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise typer.BadParameter(f"{change!r} is not KEY=VALUE", param_hint="--set")
        pairs[key.strip()] = value.strip()
    return pairs


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
