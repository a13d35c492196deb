"""Help in sections, without the rich text that takes longer to import than all else that help needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperGroup


class SectionedGroup(TyperGroup):
    """A group of commands whose help lists them under the panels they were added to."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each panel, in the order of the commands."""
        sections = self._sections()
        width = max((len(name) for commands in sections.values() for name in commands), default=0)
        for panel, commands in sections.items():
            with formatter.section(panel):
                room = formatter.width - 6 - width
                formatter.write_dl(
                    [
                        (name.ljust(width), command.get_short_help_str(room))
                        for name, command in commands.items()
                    ]
                )

    def _sections(self) -> Mapping[str, Mapping[str, Any]]:
        sections: dict[str, dict[str, Any]] = {}
        for name, command in self.commands.items():
            if not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                sections.setdefault(str(panel), {})[name] = command
        return sections
