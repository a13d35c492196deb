"""Verbs that make versions and move aliases: publish, import, promote, rollback, unset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.adapter.errors import BaseNotFound, InvalidReference
from hotshoe.adapter.reference import AdapterName, AdapterRef, Alias, VersionNumber
from hotshoe.adapter.version import Version
from hotshoe.cli.showing import move_json
from hotshoe.cli.verb import (
    ActorOption,
    JsonOption,
    RegistryOption,
    default_actor,
    joined,
    print_json,
    verb,
)

if TYPE_CHECKING:
    from hotshoe.registry import BaseModel, Move, Registry
else:
    Move = Registry = Any  # typer evaluates annotations, and the registry takes long to import.

NameOption = Annotated[str, typer.Option("--as", metavar="ORG/NAME", help="The adapter to be a version of.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
AliasArgument = Annotated[
    str, typer.Argument(metavar="ORG/NAME@ALIAS", help="The alias, for example acme/support@prod.")
]


def publishing_verb(function: Callable[..., Version]) -> Callable[..., None]:
    """Make a verb of a function that publishes; what all such verbs may say is added."""

    def run(
        *,
        message: Annotated[
            str, typer.Option("--message", "-m", metavar="TEXT", help="What is new in it.")
        ] = "",
        tags: Annotated[
            list[str] | None,
            typer.Option("--tag", metavar="WORD", help="To be found by; may be given several times."),
        ] = None,
        key: Annotated[
            Path | None,
            typer.Option(
                "--key",
                envvar="HOTSHOE_SIGNING_KEY",
                metavar="FILE",
                help="Sign with this key of `hotshoe keygen`.",
            ),
        ] = None,
        actor: ActorOption = "",
        registry: RegistryOption = None,
        as_json: JsonOption = False,
        **own: Any,
    ) -> None:
        from hotshoe.cli.keys import signing_key
        from hotshoe.registry import open_registry

        how = {
            "actor": actor or default_actor(),
            "message": message,
            "tags": tags or (),
            "sign_with": signing_key(key),
        }
        with open_registry(registry) as opened:
            version = function(opened, **own, **how)
        _print_version(version, as_json=as_json)

    return joined(run, function)


def moving_verb(function: Callable[..., Move]) -> Callable[..., None]:
    """Make a verb of a function that moves an alias; what all such verbs may say is added."""

    def run(
        *,
        expected: Annotated[
            str | None,
            typer.Option(
                "--expected",
                metavar="ETAG",
                help="Only if the alias still has this etag, as `hotshoe show` prints it; else: Conflict.",
            ),
        ] = None,
        promotion_id: Annotated[
            str | None,
            typer.Option(
                "--promotion-id",
                metavar="ID",
                help="Any word of your own: the same one sent again, after a lost answer, changes nothing.",
            ),
        ] = None,
        actor: ActorOption = "",
        registry: RegistryOption = None,
        as_json: JsonOption = False,
        **own: Any,
    ) -> None:
        from hotshoe.registry import open_registry

        how = {"expected": expected, "promotion_id": promotion_id, "actor": actor or default_actor()}
        with open_registry(registry) as opened:
            move = function(opened, **own, **how)
        _print_move(move, as_json=as_json)

    return joined(run, function)


@verb
@publishing_verb
def publish(
    opened: Registry,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A PEFT folder: adapter_config.json and safetensors.")
    ],
    name: NameOption,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="FOLDER_OR_REPO",
            help="The base it was trained on; needed where the folder has no manifest.",
        ),
    ] = None,
    **how: Any,
) -> Version:
    """Publish a folder as the next version of an adapter; prints org/name@v1.

    The files are inspected first. The same content published again is the same version.
    """
    from hotshoe.registry.base import fetch_base

    return opened.publish(folder, AdapterName.parse(name), base=fetch_base(base) if base else None, **how)


@verb
@publishing_verb
def import_foreign(
    opened: Registry,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A PEFT folder, or a Hub repo org/name[@revision].")
    ],
    name: NameOption,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="FOLDER_OR_REPO", help="Its base. Default: the one it names itself."),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Convert an old .bin, in a process that can only read tensors."),
    ] = False,
    **how: Any,
) -> Version:
    """Import an adapter that was not made by Hotshoe; inspected like any other."""
    import tempfile

    from hotshoe.registry.hub_import import repo_fetcher
    from hotshoe.registry.importing import import_adapter

    adapter = AdapterName.parse(name)
    with tempfile.TemporaryDirectory(prefix="hotshoe-import-") as scratch:
        folder = import_adapter(
            source, Path(scratch) / "adapter", fetch=repo_fetcher(Path(scratch)), allow_pickle=allow_pickle
        )
        how["message"] = how["message"] or f"imported from {source}"
        return opened.publish(folder, adapter, base=_base_of(folder, base), **how)


@verb
@moving_verb
def promote(
    opened: Registry,
    ref: Annotated[
        str, typer.Argument(metavar="ORG/NAME@VERSION", help="The version, for example acme/support@v7.")
    ],
    alias: Annotated[
        str,
        typer.Argument(
            metavar="ALIAS", help="The alias to move, for example prod; or a split, canary=v8:10,v7:90."
        ),
    ],
    reason: ReasonOption,
    force: Annotated[
        bool, typer.Option("--force", help="Even if its own gates failed; the history says so.")
    ] = False,
    **how: Any,
) -> Move:
    """Point an alias at a version, or split it by weight. Servers follow within seconds, without a restart.

    A split names its versions itself: hotshoe promote acme/support canary=v8:10,v7:90 --reason "try v8"
    """
    from hotshoe.registry.aliases import parse_split

    parsed = AdapterRef.parse(ref)
    splits = "=" in alias
    if splits and parsed.selector is not None:
        raise InvalidReference(f"{alias} names its versions itself: write {parsed.adapter} without @")
    if not splits and parsed.selector is None:
        raise InvalidReference(f"{ref} names no version: write {ref}@v1 (`hotshoe show {ref}` lists them)")
    if splits:
        name, weights = parse_split(alias)
    else:
        # A number needs no looking up: whether it is there is seen when the alias is moved.
        known = parsed.selector.number if isinstance(parsed.selector, VersionNumber) else None
        name, weights = alias, {known or opened.version(parsed).number: 1}
    return opened.split(parsed.adapter, Alias(name).name, weights, reason=reason, force=force, **how)


@verb
@moving_verb
def rollback(opened: Registry, ref: AliasArgument, reason: ReasonOption = "rollback", **how: Any) -> Move:
    """Point an alias back at what it pointed to before."""
    return opened.rollback(*_adapter_and_alias(ref), reason=reason, **how)


@verb
@moving_verb
def unset(opened: Registry, ref: AliasArgument, reason: ReasonOption, **how: Any) -> Move:
    """Make an alias point nowhere; its history stays."""
    return opened.unset(*_adapter_and_alias(ref), reason=reason, **how)


def _base_of(folder: Path, named: str | None) -> BaseModel:
    from hotshoe.registry.base import fetch_base
    from hotshoe.registry.importing import named_base

    if named:
        return fetch_base(named)
    try:
        return fetch_base(named_base(folder))
    except BaseNotFound as error:
        # Often a path on the machine of whoever trained it.
        raise BaseNotFound(
            f"the adapter names a base that is not here; name it with --base: {error}"
        ) from error


def _adapter_and_alias(ref: str) -> tuple[AdapterName, str]:
    parsed = AdapterRef.parse(ref)
    if not isinstance(parsed.selector, Alias):
        raise InvalidReference(f"{ref} names no alias: write {parsed.adapter}@prod")
    return parsed.adapter, parsed.selector.name


def _print_version(version: Version, *, as_json: bool) -> None:
    if as_json:
        print_json({"version": str(version), "commit": version.commit, "manifest": version.manifest_sha256})
    else:
        typer.echo(str(version))


def _print_move(move: Move, *, as_json: bool) -> None:
    from hotshoe.registry import targets_text

    if as_json:
        print_json(move_json(move))
        return
    way = f"{targets_text(move.before)} -> {targets_text(move.to)}"
    typer.echo(f"{move.adapter}@{move.alias}: {way} (etag {move.etag})")
