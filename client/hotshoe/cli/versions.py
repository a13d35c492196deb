"""Verbs that write to the registry: publish, promote, rollback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.adapter.errors import InvalidReference
from hotshoe.adapter.reference import AdapterName, AdapterRef, Alias
from hotshoe.cli.verb import ActorOption, JsonOption, RegistryOption, default_actor, print_json, verb

if TYPE_CHECKING:
    from hotshoe.registry import Move

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
ExpectedOption = Annotated[
    str | None,
    typer.Option(
        "--expected",
        metavar="ETAG",
        help="Only if the alias still has this etag, as `hotshoe show` prints it; else: Conflict.",
    ),
]


@verb
def publish(
    folder: Annotated[Path, typer.Argument(help="A PEFT folder: adapter_config.json and safetensors.")],
    name: Annotated[str, typer.Option("--as", metavar="ORG/NAME", help="The adapter it is a version of.")],
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="FOLDER_OR_REPO",
            help="The base it was trained on; needed where the folder has no manifest.",
        ),
    ] = None,
    message: Annotated[str, typer.Option("--message", "-m", help="What is new in it.")] = "",
    actor: ActorOption = "",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a folder as the next version of an adapter; prints org/name@v1.

    The files are inspected first. The same content published again is the same version.
    """
    from hotshoe.registry import open_registry
    from hotshoe.registry.base import fetch_base

    adapter = AdapterName.parse(name)
    with open_registry(registry) as opened:
        version = opened.publish(
            folder,
            adapter,
            base=fetch_base(base) if base else None,
            actor=actor or default_actor(),
            message=message,
        )
    if as_json:
        print_json({"version": str(version), "commit": version.commit, "manifest": version.manifest_sha256})
    else:
        typer.echo(str(version))


@verb
def promote(
    ref: Annotated[str, typer.Argument(metavar="ORG/NAME@VERSION", help="The version, for example v7.")],
    alias: Annotated[str, typer.Argument(help="The alias to move, for example prod.")],
    reason: ReasonOption,
    expected: ExpectedOption = None,
    actor: ActorOption = "",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version. Servers follow within seconds, without a restart."""
    from hotshoe.registry import open_registry

    parsed = AdapterRef.parse(ref)
    if parsed.selector is None:
        raise InvalidReference(f"{ref} names no version: write {ref}@v1 (`hotshoe show {ref}` lists them)")
    with open_registry(registry) as opened:
        move = opened.promote(
            parsed.adapter,
            Alias(alias).name,
            opened.resolve(parsed).number,
            expected=expected,
            actor=actor or default_actor(),
            reason=reason,
        )
    _print_move(move, as_json=as_json)


@verb
def rollback(
    ref: Annotated[str, typer.Argument(metavar="ORG/NAME@ALIAS", help="The alias, for example prod.")],
    reason: ReasonOption = "rollback",
    expected: ExpectedOption = None,
    actor: ActorOption = "",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias back at what it pointed to before."""
    from hotshoe.registry import open_registry

    parsed = AdapterRef.parse(ref)
    if not isinstance(parsed.selector, Alias):
        raise InvalidReference(f"{ref} names no alias: write {parsed.adapter}@prod")
    with open_registry(registry) as opened:
        move = opened.rollback(
            parsed.adapter,
            parsed.selector.name,
            expected=expected,
            actor=actor or default_actor(),
            reason=reason,
        )
    _print_move(move, as_json=as_json)


def move_json(move: Move) -> dict[str, Any]:
    """A move of an alias as JSON."""
    from hotshoe.registry import targets_text

    return {
        "adapter": str(move.adapter),
        "alias": move.alias,
        "from": targets_text(move.before),
        "to": targets_text(move.to),
        "etag": move.etag,
        "actor": move.actor,
        "reason": move.reason,
        "promotion_id": move.promotion_id,
        "at": move.at,
    }


def _print_move(move: Move, *, as_json: bool) -> None:
    from hotshoe.registry import targets_text

    if as_json:
        print_json(move_json(move))
        return
    way = f"{targets_text(move.before)} -> {targets_text(move.to)}"
    typer.echo(f"{move.adapter}@{move.alias}: {way} (etag {move.etag})")
