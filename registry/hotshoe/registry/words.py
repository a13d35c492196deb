"""What people say for the log, when they publish or move an alias: text that can be kept, and bounded."""

from __future__ import annotations

from hotshoe.adapter.errors import InvalidRequest

NAME_CHARACTERS = 200
"""Of an actor and of a promotion id."""

TEXT_CHARACTERS = 4000
"""Of a reason and of a message."""


def check_words(**words: tuple[str, int]) -> None:
    """Raise InvalidRequest, which says which, for text over its limit or that is no UTF-8."""
    for what, (text, limit) in words.items():
        named = what.replace("_", " ")
        if len(text) > limit:
            raise InvalidRequest(f"the {named} has {len(text)} characters: use {limit} at most")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"the {named} is no text in UTF-8: {text[:40]!r}") from error
