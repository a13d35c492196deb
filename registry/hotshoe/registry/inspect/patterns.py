"""Regular expressions of strangers: which of them no name can make run away.

vLLM and PEFT run what stands in `adapter_config.json`, and Python's matcher goes back without end.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

MAX_PATTERNS = 1024

_MAX_CHARACTERS = 256
_MAX_WAYS = 100_000
_SAFE_CHARACTERS = re.compile(r"[\w\-.\\|^$()\[\]*+?]*")
_QUANTIFIER = re.compile(r"[*+?]+")
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)

_PLACES = (1, 100, 5_000)
"""Of none, one and two quantifiers, how many ways they can part a name of a hundred characters."""


def is_safe(pattern: object, *, quantifiers: int = 1) -> bool:
    """Whether `pattern` is one that no name of bounded length can make run away.

    It has so many quantifiers at most (two are the most that can be asked), none of them on a group, no
    back-reference and no look-around, and few ways through its alternatives: `(|)(|)(|)` has eight.
    """
    if (
        not isinstance(pattern, str)
        or not 0 < len(pattern) <= _MAX_CHARACTERS
        or not _SAFE_CHARACTERS.fullmatch(pattern)
        or re.search(r"\\[1-9]|\)[*+?]|\(\?", pattern)
    ):
        return False
    try:
        re.compile(pattern)  # By itself, too: `)|(` is valid only between the parentheses that go round it.
        _compiled(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    found = len(_QUANTIFIER.findall(pattern))
    return found <= quantifiers and branches(pattern) * _PLACES[found] <= _MAX_WAYS


def branches(pattern: str) -> int:
    """The ways through a valid pattern's alternatives: one that fails may be tried on each of them."""
    # Of each open group: the ways of its alternatives before, and those of the one that is read.
    groups = [[0, 1]]
    for token in _TOKEN.findall(pattern):
        if token == "(":
            groups.append([0, 1])
        elif token == "|":
            groups[-1] = [sum(groups[-1]), 1]
        elif token == ")":
            ways = sum(groups.pop())
            groups[-1][1] *= ways
    return sum(groups[0])


def has_quantifier(pattern: str) -> bool:
    return _QUANTIFIER.search(pattern) is not None


def by_pattern(patterns: Mapping[str, float], module: str, default: float) -> float:
    """PEFT's and vLLM's rule: the first key that ends the name at a dot (or is all of it) wins."""
    for key, value in patterns.items():
        if _compiled(key).match(module):
            return value
    return default


@functools.lru_cache(MAX_PATTERNS)
def _compiled(key: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({key})$")
