"""Every page names only what there is: verbs, flags, other pages and their headings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.command_line import GROUP, flags_of

HOUSE = Path(__file__).parents[2]
PAGES = sorted(
    [*HOUSE.glob("*.md"), *(HOUSE / "docs").rglob("*.md")], key=lambda path: str(path.relative_to(HOUSE))
)
NAMES = [str(page.relative_to(HOUSE)) for page in PAGES]
_COMMAND = re.compile(r"(?:^|`|-- )hotshoe ([a-z][a-z-]*)((?:\\\n|[^`\n])*)", re.MULTILINE)
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_on_it_is_one_that_hotshoe_takes(page: Path) -> None:
    for verb, rest in _COMMAND.findall(page.read_text()):
        assert verb in GROUP.commands
        assert set(_FLAG.findall(rest)) <= flags_of(verb)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_on_it_leads_to_a_page_and_a_heading(page: Path) -> None:
    for path, heading in _LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists()
        assert not heading or heading in headings(target)


def headings(page: Path) -> set[str]:
    """The names by which links reach the page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
