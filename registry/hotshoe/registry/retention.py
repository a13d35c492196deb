"""Which versions may go, and letting them go. Nothing that an alias points to, or lately did, ever does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hotshoe.adapter.errors import InvalidRequest, NotFound, Refused
from hotshoe.adapter.version import Version
from hotshoe.registry.registry import Registry
from hotshoe.registry.values import AdapterState, Move

_MAX_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept of each adapter: its newest versions, and what any alias pointed to in the last days."""

    last: int = 10
    days: float = 90.0

    def __post_init__(self) -> None:
        # Written so that nan is refused as well.
        if self.last < 1 or not 0 <= self.days <= _MAX_DAYS:
            raise InvalidRequest(
                f"cannot keep {self.last} versions and {self.days} days: keep 1 or more versions, and 0 to "
                f"{_MAX_DAYS} days"
            )


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection did, or would do. freed_bytes: of the store's disk; 0 for a dry run."""

    versions: tuple[Version, ...]
    freed_bytes: int
    dry_run: bool


def collect(registry: Registry, retention: Retention, *, dry_run: bool = True) -> Collected:
    """Retire what `retention` does not keep. A dry run, the default, only says which versions those are.

    Numbers are never given again and no history is rewritten: the log goes on telling of them.
    """
    now = datetime.now(UTC)
    gone: list[Version] = []
    for summary in registry.adapters():
        state, moves = registry.show(summary.adapter), registry.history(summary.adapter)
        gone += expired(state, moves, retention, now)
    if not dry_run:
        gone = [version for version in gone if _retired(registry, version)]
    return Collected(tuple(gone), 0 if dry_run else registry.store.sweep(), dry_run)


def _retired(registry: Registry, version: Version) -> bool:
    try:
        registry.store.retire(version.adapter, version.number)
    except (Refused, NotFound):
        return False  # Promoted, or let go by another collection, since it was looked at.
    return True


def expired(state: AdapterState, moves: Iterable[Move], retention: Retention, now: datetime) -> list[Version]:
    """The versions of one adapter that may go; `moves` are those of all its aliases, newest last. Pure."""
    since = now - timedelta(days=retention.days)
    kept = {found.version.number for found in state.versions[-retention.last :]}
    for alias in state.aliases.values():
        kept |= {target.version.number for target in alias.targets}
    for move in moves:
        if move.at >= since:
            # What it pointed to before was pointed to until this moment.
            kept |= {target.version.number for target in (*move.to, *move.before)}
    return [found.version for found in state.versions if found.version.number not in kept]
