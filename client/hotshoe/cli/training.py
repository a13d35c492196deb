"""The verb that trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotshoe.cli.outcome import best, print_outcome
from hotshoe.cli.verb import (
    ActorOption,
    JsonOption,
    RegistryOption,
    default_actor,
    print_json,
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
    from hotshoe.registry import open_registry
    from hotshoe.train.config import TrainConfig

    fixed, grid = _overrides(changes or []), _grid(sweep, more)
    chosen = TrainConfig.read(config, fixed)
    _refuse_contradictions(config, chosen, grid, publish=publish, plan=plan, if_changed=if_changed)
    if plan:
        _print_plan(chosen, registry, skip_bad=skip_bad, as_json=as_json)
        return
    folder = out or _new_folder(config, chosen)
    with open_registry(registry) as opened:
        if if_changed and (same := _published(chosen, opened)):
            _print_unchanged(same, as_json=as_json)
            return
        with _training(opened, skip_bad=skip_bad) as run:
            trials = _trials(config, chosen, grid, fixed, folder, run)
        version = None
        if publish and chosen.adapter is not None:
            version = opened.publish(
                best(trials).folder, chosen.adapter, actor=actor or default_actor(), message=message
            )
    print_outcome(trials, chosen, version, folder if grid else None, as_json=as_json)


def _grid(sweep: list[str] | None, more: list[str] | None) -> Mapping[str, Sequence[str]]:
    from hotshoe.adapter.errors import InvalidConfig
    from hotshoe.train.sweep import parse_grid

    if more and not sweep:
        raise InvalidConfig(f"{' '.join(more)} follows no --sweep: override a key with --set KEY=VALUE")
    return parse_grid([*(sweep or ()), *(more or ())])


def _refuse_contradictions(
    config: Path,
    chosen: TrainConfig,
    grid: Mapping[str, Sequence[str]],
    *,
    publish: bool,
    plan: bool,
    if_changed: bool,
) -> None:
    from hotshoe.adapter.errors import InvalidConfig

    if publish and chosen.adapter is None:
        raise InvalidConfig(f'{config} names no adapter to publish: add [publish] as = "org/name"')
    if grid and (plan or if_changed):
        raise InvalidConfig(f"{'--plan' if plan else '--if-changed'} is about one run: leave --sweep out")


def _trials(
    config: Path,
    chosen: TrainConfig,
    grid: Mapping[str, Sequence[str]],
    fixed: Mapping[str, str],
    folder: Path,
    run: Callable[[TrainConfig, Path], TrainResult],
) -> list[Trial]:
    """Every combination of the grid, the best first; without one, the run that was chosen."""
    from hotshoe.train.sweep import Trial
    from hotshoe.train.sweep import sweep as run_sweep

    return run_sweep(config, grid, run, folder, fixed) if grid else [Trial({}, run(chosen, folder))]


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
