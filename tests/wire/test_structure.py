"""What a structure may cost everybody else is bounded before the engine sees it."""

from __future__ import annotations

import json

import pytest

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.wire.structure import JsonSchema, Regex

SOUND = [
    r"\d{4}-\d{2}-\d{2}",
    r"(\d{1,3}\.){3}\d{1,3}",
    "[a-z]{0,500}",
    "([a-z]+ ?)*",
    "(yes|no)( \\([a-z{}]{1,80}\\))?",
    r"[^\]{(]{1,200}\{300,999\}",
    "a{2,}",
    "{",
]
COSTLY = [
    "([a-z]{0,15} ?){0,15}",
    "(([a-z]{0,5} ?){0,5}){0,8}",
    "((((a{3}){3}){3}){3}){3}",
    "a{1,1000}",
    "a?" * 65,
    "(a|b|ab)*" * 65,
    "a{0,1}" * 65,
]


@pytest.mark.parametrize("pattern", SOUND)
def test_repetitions_that_cost_little_are_taken(pattern: str) -> None:
    Regex(pattern)
    JsonSchema(json.dumps({"type": "string", "pattern": pattern}))


@pytest.mark.parametrize("pattern", COSTLY)
def test_repetitions_that_would_hold_up_everybody_are_refused_wherever_they_stand(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match="regex repeats too much"):
        Regex(pattern)
    inner = {"type": "string", "pattern": pattern}
    for schema in (
        inner,
        {"type": "array", "items": inner},
        {"type": "object", "properties": {"a": inner}},
        {"type": "object", "patternProperties": {pattern: {}}},
    ):
        with pytest.raises(InvalidRequest, match="pattern repeats too much"):
            JsonSchema(json.dumps(schema))
