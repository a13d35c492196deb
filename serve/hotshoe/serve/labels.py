"""A bound on names that strangers and time make many of."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

LABELLED = 200
OTHER = "other"

Name = TypeVar("Name", bound=Hashable)


class Bounded(Generic[Name]):
    """Tells the first `LABELLED` names apart; all later ones are `other`."""

    def __init__(self, other: Name) -> None:
        self._other = other
        self._known: set[Name] = set()

    def of(self, name: Name) -> Name:
        """The name itself, or `other`."""
        if name not in self._known:
            if len(self._known) >= LABELLED:
                return self._other
            self._known.add(name)
        return name
