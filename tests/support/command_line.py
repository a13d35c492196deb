"""What the `hotshoe` command takes."""

from __future__ import annotations

from typing import cast

import typer.main
from typer.core import TyperGroup

from hotshoe.cli.main import app

GROUP = cast(TyperGroup, typer.main.get_command(app))


def flags_of(verb: str) -> frozenset[str]:
    """Every flag of a verb; raises KeyError where there is no such verb."""
    parameters = GROUP.commands[verb].params
    return frozenset(
        {"--help", *(name for each in parameters for name in (*each.opts, *each.secondary_opts))}
    )
