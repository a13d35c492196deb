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
    from hotshoe.train.config import TrainConfig
    from hotshoe.train.result import TrainResult


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
    from hotshoe.train.progress import Terminal
    from hotshoe.train.run import train as run

    chosen = TrainConfig.read(config, _overrides(changes or []))
    if publish and chosen.adapter is None:
        raise InvalidConfig(f'{config} names no adapter to publish: add [publish] as = "org/name"')
    if plan:
        _print_plan(chosen, registry, skip_bad=skip_bad, as_json=as_json)
        return
    folder = out or Path("runs") / f"{config.stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with open_registry(registry) as opened:
        with Terminal() as progress:
            result = run(chosen, out=folder, parents=opened, skip_bad=skip_bad, progress=progress)
        version = None
        if publish and chosen.adapter is not None:
            version = opened.publish(folder, chosen.adapter, actor=actor or default_actor(), message=message)
    if as_json:
        print_json(_result_json(result) | {"version": str(version) if version else None})
    else:
        _print_result(result, chosen, str(version) if version else None)


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
