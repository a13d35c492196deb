"""Verbs that look after a registry: verify, gc, mirror."""

from __future__ import annotations

from typing import Annotated

import typer

from hotshoe.adapter.reference import AdapterName
from hotshoe.cli.verb import JsonOption, RegistryOption, print_json, verb


@verb
def verify(
    head: Annotated[
        str | None,
        typer.Option(
            "--head", metavar="SHA256", help="A head that `verify` told before: it must still be in the log."
        ),
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that the registry is as it was written: log, versions, aliases, and in a folder every byte.

    Cutting off the newest entries cannot be seen from what is left: note the head elsewhere, and give it
    to --head next time.
    """
    from hotshoe.registry import open_registry

    with open_registry(registry) as opened:
        proof, place = opened.verify(head), opened.url
    if as_json:
        print_json({"registry": place, "entries": proof.entries, "head": proof.head, "whole": True})
    else:
        typer.echo(f"{place}: {proof.entries} entries, all as they were written")
        if proof.head:
            typer.echo(f"head: {proof.head}")


@verb
def gc(
    last: Annotated[int, typer.Option("--last", help="Keep the newest N versions of each adapter.")] = 10,
    days: Annotated[
        float, typer.Option("--days", help="Keep all that an alias pointed to in the last N days.")
    ] = 90.0,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without this, only say what would go.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let old versions go. Whatever an alias points to, or lately did, stays; history is never rewritten."""
    from hotshoe.registry import open_registry
    from hotshoe.registry.retention import Retention, collect

    with open_registry(registry) as opened:
        done = collect(opened, Retention(last=last, days=days), dry_run=not yes)
    if as_json:
        print_json(
            {
                "versions": [str(version) for version in done.versions],
                "freed_bytes": done.freed_bytes,
                "dry_run": done.dry_run,
            }
        )
        return
    for version in done.versions:
        typer.echo(str(version))
    if done.dry_run:
        typer.echo(f"{len(done.versions)} versions would go; --yes lets them go", err=True)
    else:
        typer.echo(f"{len(done.versions)} versions went, {done.freed_bytes:,} bytes are free again", err=True)


@verb
def mirror(
    target: Annotated[
        str, typer.Argument(metavar="URL", help="The registry to copy to: folder or hub://org.")
    ],
    adapters: Annotated[
        list[str] | None, typer.Argument(metavar="[ORG/NAME]...", help="Which adapters. Default: all.")
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy adapters to another registry: versions, aliases and history; what is there already is kept."""
    from hotshoe.registry import open_registry
    from hotshoe.registry.mirror import mirror as copy

    names = [AdapterName.parse(name) for name in adapters] if adapters else None
    with open_registry(registry) as source, open_registry(target) as there:
        done = copy(source, there, names)
    if as_json:
        print_json({"versions": [str(version) for version in done.versions], "moves": len(done.moves)})
    else:
        typer.echo(f"copied {len(done.versions)} versions and {len(done.moves)} moves of aliases to {target}")
