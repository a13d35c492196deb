"""Who may have a process for a structure when there are only so many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """A process that there is. idle: it could make room, for nobody follows it or is about to."""

    key: str
    tenant: str
    idle: bool


def leaving(tenant: str, places: Sequence[Place], most: int) -> list[str] | None:
    """The keys that leave for one more of the tenant's; None if it may have none now.

    places: those used longest ago first. A tenant takes a free place while it has fewer than are free: one
    alone gets half of all, who comes after it half of the rest, and so on. Beyond that it replaces its own
    idle ones, or those of a tenant that has more than it. What is in use is never taken back.
    """
    has = Counter(each.tenant for each in places)
    if has[tenant] < most - len(places):
        return []
    idle = [each for each in places if each.idle]
    own = next((each for each in idle if each.tenant == tenant), None)
    if own is not None:
        return [own.key]
    richer = [each for each in idle if has[each.tenant] > has[tenant]]
    richest = max(richer, key=lambda each: has[each.tenant], default=None)
    return None if richest is None else [richest.key]
