"""What an answer must look like, as a caller demands it.

What a structure costs is bounded where it is followed (hotshoe.serve.structures). What is refused here is
known to take too much, and the message says of what.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from hotshoe.adapter.errors import InvalidRequest

DEEPEST_SCHEMA = 64
"""Levels of objects and lists in a JSON schema. The time that it takes to read grows with their cube: 8 ms
at 64, half a minute at 1,000."""

MOST_REPETITIONS = 512
MOST_NESTED_REPETITIONS = 32
MOST_OPTIONAL = 64
"""Of a regular expression; measured with xgrammar and 49,000 tokens. `[a-z]{0,500}` is compiled in 0.4 s and
costs nothing a token; `([a-z]{0,15} ?){0,15}` costs 0.65 s a token; `a?` 256 times takes 11 s to compile, and
the cube of how often."""

MOST_OPTIONS = 1000

_REPEATED = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}")


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
        for pattern in _patterns(parsed):
            check_regex("json_schema's pattern", pattern)


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole answer matches this regular expression."""

    pattern: str

    def __post_init__(self) -> None:
        _bounded("regex", self.pattern, 4 << 10)
        if "\0" in self.pattern:
            raise InvalidRequest("regex has a NUL character, which nothing can match: leave it out")
        check_regex("regex", self.pattern)


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
        few = 1 <= len(self.options) <= MOST_OPTIONS
        if not few or any(not 1 <= len(each) <= 1024 for each in self.options):
            raise InvalidRequest(f"choice takes 1 to {MOST_OPTIONS} texts of 1 to 1024 characters each")


Structure = JsonSchema | Regex | Grammar | Choice


def check_regex(what: str, pattern: str) -> None:
    """Raise InvalidRequest for repetitions that take too long; whether it is sound is not judged."""
    nested, most, optional = _repetitions(pattern)
    if most > MOST_REPETITIONS or nested > MOST_NESTED_REPETITIONS or optional > MOST_OPTIONAL:
        raise InvalidRequest(
            f"{what} repeats too much: at most {MOST_REPETITIONS} times, {MOST_NESTED_REPETITIONS} in all "
            f"where repetitions are nested (+ and * do not count), and {MOST_OPTIONAL} times ? or *"
        )


def _repetitions(pattern: str) -> tuple[int, int, int]:
    """How often its innermost part is repeated, the largest single count, and how much is optional."""
    groups, atom, most, optional, at = [1], 1, 1, 0, 0
    while at < len(pattern):
        char, step = pattern[at], 1
        if char == "\\":
            atom, step = 1, 2
        elif char == "[":
            atom, step = 1, _class_length(pattern, at)
        elif char == "(":
            groups.append(1)
        elif char == ")" and len(groups) > 1:
            atom = groups.pop()
        elif repeated := _REPEATED.match(pattern, at):
            low, high = repeated.groups()
            times = int(high or low) or 1
            optional += int(low) == 0
            # A single count is bounded by itself; what counts here is one within another.
            atom, most, step = atom * times, max(most, times), len(repeated[0])
        elif char in "?*":
            optional += 1
        elif char != "+":
            atom = 1
        groups[-1] = max(groups[-1], atom)
        at += step
    return (max(groups) if max(groups) > most else 1), most, optional


def _class_length(pattern: str, at: int) -> int:
    """Characters of the class `[...]` that begins there, or all that is left."""
    end = at + 1
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return end + 1 - at


def _patterns(schema: object) -> Iterator[str]:
    """Every regular expression in a JSON schema that is parsed, wherever it stands; not nested deeply."""
    if isinstance(schema, dict):
        if isinstance(pattern := schema.get("pattern"), str):
            yield pattern
        if isinstance(named := schema.get("patternProperties"), dict):
            yield from named
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _patterns(inner)


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
