"""What an answer must look like, as a caller demands it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hotshoe.adapter.errors import InvalidRequest

DEEPEST_SCHEMA = 64
"""Levels of objects and lists in a JSON schema. The time that it takes to read grows with their cube, and
everybody waits for it: 8 ms at 64, half a minute at 1,000."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer is JSON that this schema (itself JSON text) allows."""

    schema: str

    def __post_init__(self) -> None:
        _bounded("json_schema", self.schema, 64 << 10)
        try:
            parsed = json.loads(self.schema)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"json_schema is no JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise InvalidRequest("json_schema is no JSON object: a schema is one")
        if _deeper(parsed, DEEPEST_SCHEMA):
            raise InvalidRequest(f"json_schema is nested deeper than {DEEPEST_SCHEMA} levels: flatten it")


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole answer matches this regular expression."""

    pattern: str

    def __post_init__(self) -> None:
        _bounded("regex", self.pattern, 4 << 10)


@dataclass(frozen=True, slots=True)
class Grammar:
    """The answer follows this grammar in GBNF (EBNF as llama.cpp writes it)."""

    gbnf: str

    def __post_init__(self) -> None:
        _bounded("grammar", self.gbnf, 64 << 10)


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer is one of these texts."""

    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.options) <= 1000 or any(not 1 <= len(each) <= 1024 for each in self.options):
            raise InvalidRequest("choice takes 1 to 1000 texts of 1 to 1024 characters each")


Structure = JsonSchema | Regex | Grammar | Choice


def _bounded(name: str, text: str, most: int) -> None:
    if not text.strip() or len(text) > most:
        raise InvalidRequest(f"{name} has {len(text)} characters: give 1 to {most}")


def _deeper(value: object, levels: int) -> bool:
    """Whether parsed JSON is nested deeper than that."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for each in layer
            for inner in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]
    return any(isinstance(each, dict | list) for each in layer)
