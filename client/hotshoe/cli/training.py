"""The verb that trains."""

from __future__ import annotations

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
    require,
    verb,
)

if TYPE_CHECKING:
    from hotshoe.adapter.version import Version
    from hotshoe.registry import Registry
    from hotshoe.train.config import TrainConfig
    from hotshoe.train.result import TrainResult
    from hotshoe.train.sweep import Trial


@verb
def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="What to train; see docs/training.md.")
    ],
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

    chosen = TrainConfig.read(config, _overrides(changes or []))
    if publish and chosen.adapter is None:
        raise InvalidConfig(f'{config} names no adapter to publish: add [publish] as = "org/name"')
    if plan:
        _print_plan(chosen, registry, skip_bad=skip_bad, as_json=as_json)
        return
    if sweep and changes:
        raise InvalidConfig("--sweep does not go with --set: put the fixed values into the config")
    folder = out or Path("runs") / f"{config.stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with open_registry(registry) as opened:
        if if_changed and (same := _published(chosen, opened)):
            _print_unchanged(same, as_json=as_json)
            return
        trials = _run(config, chosen, sweep or [], folder, opened, skip_bad=skip_bad)
        result, version = trials[0].result, None
        if publish and chosen.adapter is not None:
            version = opened.publish(
                result.folder, chosen.adapter, actor=actor or default_actor(), message=message
            )
    if as_json:
        print_json(_result_json(result) | {"version": str(version) if version else None})
        return
    if sweep:
        _print_trials(trials)
    _print_result(result, chosen, str(version) if version else None)


def _run(
    path: Path, config: TrainConfig, grid: list[str], out: Path, registry: Registry, *, skip_bad: bool
) -> list[Trial]:
    """One trial, or with a grid every combination, the best first."""
    from hotshoe.train.progress import Terminal
    from hotshoe.train.run import train as run
    from hotshoe.train.sweep import Trial, parse_grid, sweep

    with Terminal() as progress:

        def run_one(config: TrainConfig, out: Path) -> TrainResult:
            return run(config, out=out, parents=registry, skip_bad=skip_bad, progress=progress)

        return sweep(path, parse_grid(grid), run_one, out) if grid else [Trial({}, run_one(config, out))]


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


def _print_trials(trials: list[Trial]) -> None:
    print_table(
        f"trials: {len(trials)}, the best first",
        ("changes", trials[0].result.main, "folder"),
        (
            (
                ", ".join(f"{key}={value}" for key, value in trial.changes.items()),
                f"{trial.result.adapter[trial.result.main]:.4f}",
                str(trial.result.folder),
            )
            for trial in trials
        ),
    )


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
    return {
        "folder": result.folder,
        "metric": result.main,
        "base": result.base,
        "adapter": result.adapter,
        "steps": result.steps,
        "loss": result.losses[-1] if result.losses else None,
        "gates": [gate.facts() for gate in result.gates],
        "seconds": round(result.seconds, 1),
    }


def _print_result(result: TrainResult, config: TrainConfig, version: str | None) -> None:
    if result.adapter:
        print_table(
            "held-out rows",
            ("metric", "base", "adapter"),
            (
                (f"{name} *" if name == result.main else name, f"{result.base[name]:.3f}", f"{value:.3f}")
                for name, value in result.adapter.items()
            ),
        )
    for gate in result.gates:
        typer.echo(f"gate {'passed' if gate.passed else 'FAILED'}: {gate.gate} (is {gate.value:.4g})")
    typer.echo(f"{result.steps} steps in {result.seconds:.0f} s -> {result.folder}")
    if version:
        typer.echo(f"published {version}")
    else:
        name = config.adapter or "org/name"
        typer.echo(f"next: hotshoe publish {result.folder} --as {name}")
