"""Verbs that look after a registry: verify, gc, mirror."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
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
    """Prove that the registry is as it was written. Log, versions, aliases, and in a folder every byte.

    Cutting off the newest entries cannot be seen from what is left: note the head elsewhere, and give it
    to --head next time.
    """
    from hotshoe.registry import open_registry

    with open_registry(registry) as opened, _progress("verify", hidden=as_json) as progress:
        proof, place = opened.verify(head, progress), opened.url
    if as_json:
        print_json({"registry": place, "entries": proof.entries, "head": proof.head, "whole": True})
    elif not proof.entries:
        # Whole it is; but who verifies has a registry in mind in which there is something.
        typer.echo(f"{place}: nothing was ever published there; is that the registry you mean?")
    else:
        typer.echo(f"{place}: {proof.entries} entries, all as they were written")
        if proof.head:
            typer.echo(f"head: {proof.head}")


@verb
def gc(
    last: Annotated[
        int, typer.Option("--last", metavar="N", help="Keep the newest N versions of each adapter.")
    ] = 10,
    days: Annotated[
        float,
        typer.Option("--days", metavar="N", help="Keep all that an alias pointed to in the last N days."),
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
        typer.echo(f"to go: {len(done.versions)}; --yes lets them go", err=True)
    else:
        typer.echo(f"gone: {len(done.versions)}; {done.freed_bytes:,} bytes are free again", err=True)


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
    """Copy adapters to another registry. Versions, aliases and history; what is there already is kept."""
    from hotshoe.registry import open_registry
    from hotshoe.registry.mirror import mirror as copy

    names = [AdapterName.parse(name) for name in adapters] if adapters else None
    with open_registry(registry) as source, open_registry(target) as there:
        done = copy(source, there, names)
    if as_json:
        print_json({"versions": [str(version) for version in done.versions], "moves": len(done.moves)})
    else:
        typer.echo(f"copied to {target}: versions {len(done.versions)}, moves of aliases {len(done.moves)}")


@contextlib.contextmanager
def _progress(what: str, *, hidden: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, gone at the end; none where nobody looks at a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=hidden or not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
