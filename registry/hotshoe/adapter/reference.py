"""The grammar of `org/name[@selector]`, in one place.

    acme/support            the adapter; where a version is needed, its alias `prod`
    acme/support@prod       whatever the alias points to now
    acme/support@v7         version 7
    acme/support@3f2a...    the version with that full 40-hex commit

Names follow the Hub's rules for repo ids, so that every adapter can live there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hotshoe.adapter.errors import InvalidReference

DEFAULT_ALIAS = "prod"
RESERVED_ALIASES = frozenset({"main", "head", "refs"})

MAX_NUMBER = 999_999_999

_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, order=True, slots=True)
class AdapterName:
    """A named line of versions, `org/name`; one Hub model repo."""

    org: str
    name: str

    def __post_init__(self) -> None:
        for what, part in (("org", self.org), ("name", self.name)):
            if not _PART.fullmatch(part) or "--" in part or ".." in part or part.endswith(".git"):
                raise InvalidReference(
                    f"{_shown(part)} is no valid adapter {what}: use 1 to 96 letters, digits, '.', '_' or "
                    "'-', with a letter or digit at both ends and no '--' or '..'"
                )
        if len(self.org) + len(self.name) + 1 > 96:
            raise InvalidReference(f"{_shown(str(self))} is longer than 96 characters: shorten org or name")

    @classmethod
    def parse(cls, text: str) -> AdapterName:
        """Parse `org/name`; raise InvalidReference for anything else, a selector included."""
        org, slash, name = text.partition("/")
        if not slash:
            raise InvalidReference(
                f"{_shown(text)} names no adapter: write org/name, for example acme/support"
            )
        return cls(org, name)

    def __str__(self) -> str:
        return f"{self.org}/{self.name}"


@dataclass(frozen=True, slots=True)
class VersionNumber:
    """Selects version `v7` by its number."""

    number: int

    def __str__(self) -> str:
        return f"v{self.number}"


@dataclass(frozen=True, slots=True)
class Alias:
    """Selects whatever version a movable name points to."""

    name: str

    def __post_init__(self) -> None:
        if (
            not _ALIAS.fullmatch(self.name)
            or self.name in RESERVED_ALIASES
            or re.fullmatch(r"v[0-9]+", self.name)
        ):
            raise InvalidReference(
                f"{_shown(self.name)} is no valid alias: use 1 to 32 lower-case letters, digits or '-', "
                "beginning with a letter; v1, v2 ... and main are taken"
            )

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Commit:
    """Selects the version of one full commit id (40 hex digits)."""

    sha: str

    def __post_init__(self) -> None:
        if not _COMMIT.fullmatch(self.sha):
            raise InvalidReference(f"{_shown(self.sha)} is no full commit id: give all 40 hex digits")

    def __str__(self) -> str:
        return self.sha


Selector = VersionNumber | Alias | Commit


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """`org/name[@selector]`, parsed. `selector` is None where none was written."""

    adapter: AdapterName
    selector: Selector | None = None

    @classmethod
    def parse(cls, text: str) -> AdapterRef:
        """Parse a reference; raise InvalidReference that says what is wrong with it."""
        name, at, selector = text.partition("@")
        return cls(AdapterName.parse(name), parse_selector(selector) if at else None)

    def __str__(self) -> str:
        return str(self.adapter) if self.selector is None else f"{self.adapter}@{self.selector}"


def parse_selector(text: str) -> Selector:
    """Parse `v7`, an alias or a full commit id."""
    if match := _VERSION.fullmatch(text):
        return VersionNumber(int(match[1]))
    if _COMMIT.fullmatch(text):
        return Commit(text)
    return Alias(text)


def _shown(text: str) -> str:
    """Quote what a stranger wrote, short and printable."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
