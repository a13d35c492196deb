"""The verbs in sections, each one imported when it is asked for.

Neither rich text nor a verb that nobody called: they take longer than what most verbs do.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup

Sections = Mapping[str, Mapping[str, tuple[str, str]]]
"""Title -> verb -> ("module:function", a line of help), the module one of this package.

The line stands here and not in the function: help for all would have to import all of them.
"""


class SectionedGroup(TyperGroup):
    """A group of commands whose help lists them in sections."""

    sections: ClassVar[Sections]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        places = {name: place for verbs in self.sections.values() for name, (place, _) in verbs.items()}
        self.commands: Any = _Verbs(places)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section after the other, in the order of the commands."""
        width = max(map(len, self.commands))
        for title, verbs in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, (_, summary) in verbs.items()])


class _Verbs(Mapping[str, Any]):
    """The commands by name, made when they are looked up."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> Any:
        module, _, function = self._places[name].partition(":")
        verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        verb.command(name)(getattr(importlib.import_module(f"hotshoe.cli.{module}"), function))
        return typer.main.get_command(verb)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
