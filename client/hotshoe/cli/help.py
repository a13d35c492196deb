"""The verbs in sections, each one imported when it is asked for.

Neither rich text nor a verb that nobody called: they take longer than what most verbs do.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup


class SectionedGroup(TyperGroup):
    """A group of commands whose help lists them in sections.

    sections: title -> verb -> "module:function", the module one of this package.
    """

    sections: ClassVar[Mapping[str, Mapping[str, str]]]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        places = {name: place for verbs in self.sections.values() for name, place in verbs.items()}
        self._verbs = _Verbs(places)
        self.commands: Any = self._verbs

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section after the other, in the order of the commands."""
        width = max(map(len, self._verbs))
        for title, verbs in self.sections.items():
            with formatter.section(title):
                room = formatter.width - 6 - width
                formatter.write_dl([(name.ljust(width), self._verbs.summary(name, room)) for name in verbs])


class _Verbs(Mapping[str, Any]):
    """The commands by name, made when they are looked up."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places

    def __getitem__(self, name: str) -> Any:
        verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        verb.command(name)(self._function(name))
        return typer.main.get_command(verb)

    def summary(self, name: str, limit: int) -> str:
        """What a verb does, in so many characters. Its options, which take long to make, are left out."""
        return TyperCommand(name, help=self._function(name).__doc__).get_short_help_str(limit)

    def _function(self, name: str) -> Any:
        module, _, function = self._places[name].partition(":")
        return getattr(importlib.import_module(f"hotshoe.cli.{module}"), function)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
