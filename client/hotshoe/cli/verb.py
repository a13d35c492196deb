"""What every verb shares: its common options, its errors and exit codes, tables and JSON."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from hotshoe.adapter.errors import (
    HotshoeError,
    InvalidConfig,
    InvalidReference,
    InvalidRequest,
    PromptTooLong,
    Refused,
)

P = ParamSpec("P")
R = TypeVar("R")

RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="URL",
        envvar="HOTSHOE_REGISTRY",
        help="Where adapters are kept: a folder, or hub://org. Default: a folder of yours.",
    ),
]
LedgerOption = Annotated[
    Path | None,
    typer.Option(
        "--ledger",
        metavar="FILE",
        envvar="HOTSHOE_LEDGER",
        help="Where usage is written down (SQLite). Default: nowhere.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of text.")]
ActorOption = Annotated[
    str,
    typer.Option("--actor", envvar="HOTSHOE_ACTOR", metavar="NAME", help="Who does this, for the history."),
]


def verb(function: Callable[P, R]) -> Callable[P, R]:
    """Turn errors into a message and an exit code: 2 for wrong use, 1 for refused or failed."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except HotshoeError as error:
            _fail(error, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader went away (`hotshoe list | head`); a second complaint at exit helps nobody.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:
            # A full disk, no rights, a name that is taken: the system's words say it, a traceback hides it.
            message = f"{error}: look at the place and its rights, then try again"
            _fail(HotshoeError(message), as_json=bool(kwargs.get("as_json")))

    return run


def joined(shared: Callable[..., None], own: Callable[..., Any]) -> Callable[..., None]:
    """`shared` as the verb that `own` is: with the options of both.

    The first parameter of `own` is for `shared` to give, and its `**` takes what `shared` adds; the `**` of
    `shared` takes the options of `own`.
    """
    _, *theirs = inspect.signature(own, eval_str=True).parameters.values()
    ours = inspect.signature(shared, eval_str=True).parameters.values()
    both = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in (*theirs, *ours)
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    functools.update_wrapper(shared, own)
    # What typer reads.
    shared.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    shared.__annotations__ = {each.name: each.annotation for each in both}
    return shared


def require(*modules: str, extra: str) -> None:
    """Raise Refused, saying what to install, unless all the modules are there; none is imported."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise Refused(
            f"this needs {', '.join(missing)}, which the bare install does not bring: "
            f"pip install 'hotshoe[{extra}]'"
        )


def default_actor() -> str:
    """The user's name, or empty where the system has none."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


def print_json(value: object) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as wide as the terminal; when piped, as wide as it needs to be."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console.width = 240
    console.print(table)


def printable(text: str) -> str:
    """What a stranger wrote, without the control characters that could drive a terminal."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _fail(error: HotshoeError, *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"error": {"reason": error.reason, "message": error.message, "details": error.details}})
    else:
        typer.echo(f"{type(error).__name__}: {printable(error.message)}", err=True)
    wrong_use = isinstance(error, InvalidReference | InvalidRequest | InvalidConfig)
    raise typer.Exit(2 if wrong_use and not isinstance(error, PromptTooLong) else 1)


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # What follows from the others is for the code alone.
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.init}
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
