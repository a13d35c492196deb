"""The verb that judges a folder before anybody publishes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hotshoe.cli.verb import JsonOption, print_json, print_table, verb


@verb
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A PEFT folder.")],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="FOLDER_OR_REPO", help="Check the shapes against this base."),
    ] = None,
    max_rank: Annotated[
        int | None, typer.Option(metavar="RANK", help="The server's largest rank, if it is known.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a server would refuse of an adapter, or take and answer wrongly; exit 1 if so."""
    from hotshoe.registry.base import fetch_base
    from hotshoe.registry.inspect import inspect as judge

    judged = judge(folder, fetch_base(base).config if base else None, max_rank=max_rank)
    if as_json:
        print_json(
            {
                "servable": not judged.errors,
                "rank": judged.rank,
                "alpha": judged.alpha,
                "targets": judged.targets,
                "findings": judged.findings,
            }
        )
    elif judged.findings:
        print_table(
            f"findings in {folder}: {len(judged.findings)}",
            ("severity", "code", "subject", "what", "what to do"),
            ((f.severity.value, f.code, f.subject, f.message, f.next_step) for f in judged.findings),
        )
    else:
        unchecked = "" if base else "; shapes unchecked, as no --base was named"
        typer.echo(f"servable: rank {judged.rank}, targets {', '.join(judged.targets)}{unchecked}")
    if judged.errors:
        raise typer.Exit(1)
