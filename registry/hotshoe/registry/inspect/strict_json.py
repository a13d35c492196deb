"""JSON as strangers write it, read strictly: bounded, no key twice, no NaN, no bottomless nesting."""

from __future__ import annotations

import json
from typing import Any


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object; raise ValueError, and nothing else, for anything that is not exactly that."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=once, parse_constant=no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {type(value).__name__}")
    return value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's pairs as a dict; raise ValueError for a key that stands there twice."""
    # Readers disagree on which of two equal keys wins; what is checked must be what is used.
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:80]!r} stands there twice")
    return found


def no_constant(name: str) -> float:
    """Refuse NaN and Infinity, which Python reads and no other."""
    raise ValueError(f"{name} is no number")
