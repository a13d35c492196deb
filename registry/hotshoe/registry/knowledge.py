"""What was read of a store, remembered: refs for as long as they may be believed, the rest for ever.

When the store does not answer, what was last known goes on counting, and `age_seconds` says how old it is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from hotshoe.adapter.errors import (
    AdapterNotFound,
    AliasNotFound,
    RegistryUnavailable,
    VersionNotFound,
)
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry.recollection import Recalled, Recollection
from hotshoe.registry.store import Refs, Store
from hotshoe.registry.values import Move

_REMEMBERED = 20_000
_KEEP_SECONDS = 60
"""Refs that did not change are written down again at this pace, for their age."""

Key = TypeVar("Key")
Value = TypeVar("Value")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """Refs, the stamp by which their freshness is judged, and when they were true.

    recalled: the store was asked again since, and did not answer.
    """

    stamp: float
    refs: Refs
    at: datetime
    recalled: bool = False


class Knowledge:
    """A store's answers. Trees and moves never change; refs are read again when the store says that
    something changed, or, where it cannot say so cheaply, after `fresh_seconds`."""

    def __init__(self, store: Store, recollection: Recollection, fresh_seconds: float) -> None:
        self._store = store
        self._recollection = recollection
        self._fresh_seconds = fresh_seconds
        self._refs: dict[AdapterName, Known] = {}
        self._moves: dict[tuple[AdapterName, str, str], Move] = {}
        self._manifests: dict[tuple[AdapterName, str], Manifest] = {}
        self._digests: dict[tuple[AdapterName, str], str] = {}
        self._log: tuple[Move, ...] = ()
        self._kept: dict[AdapterName, Recalled] = {}
        self._lock = threading.Lock()

    def refs(self, adapter: AdapterName, *, fresh: bool = False) -> Refs:
        """The refs of `known`."""
        return self.known(adapter, fresh=fresh).refs

    def known(self, adapter: AdapterName, *, fresh: bool = False) -> Known:
        """Refs that may be believed now: from memory if they are there, and if nothing else can be had.

        fresh: as the store has them at this moment, or RegistryUnavailable; nothing older will do.
        """
        # Asked before the refs are read: a change in between makes them old, never wrongly fresh.
        generation = self._store.generation()
        stamp = time.monotonic() if generation is None else generation
        known = self._refs.get(adapter)
        if (
            not fresh
            and known is not None
            and (
                known.stamp == stamp if generation is not None else stamp - known.stamp < self._fresh_seconds
            )
        ):
            return known
        try:
            refs = self._store.refs(adapter)
        except AdapterNotFound:
            self._refs.pop(adapter, None)
            raise
        except RegistryUnavailable as error:
            if fresh:
                raise
            known = replace(self._last_known(adapter, error), stamp=stamp, recalled=True)
            # Believed again for a while, so that an outage is not made worse by everybody asking. Not so
            # where only a change would end that while, and may have come already.
            if generation is None:
                self._refs[adapter] = known
            return known
        known = self._refs[adapter] = Known(stamp, refs, datetime.now(UTC))
        self._keep(adapter)
        return known

    def move(self, adapter: AdapterName, alias: str, etag: str) -> Move:
        """The move that made `etag`."""

        def read() -> Move:
            return self._store.move(adapter, alias, etag)

        return self._recall(adapter, self._moves, (adapter, alias, etag), read)

    def manifest(self, adapter: AdapterName, commit: str) -> Manifest:
        """The manifest in the version's tree."""

        def read() -> Manifest:
            return Manifest.parse(self._store.read(adapter, commit, MANIFEST_PATH))

        return self._recall(adapter, self._manifests, (adapter, commit), read)

    def digest(self, adapter: AdapterName, commit: str) -> str:
        """The sha256 of the manifest in the version's tree."""
        return self._recall(
            adapter, self._digests, (adapter, commit), lambda: self.manifest(adapter, commit).sha256
        )

    def head(self, refs: Refs, alias: str) -> Move | None:
        """The last move of an alias; None if there never was one. `to` is empty if it is unset."""
        etag = refs.aliases.get(alias)
        return None if etag is None else self.move(refs.adapter, alias, etag)

    def moves(self, adapter: AdapterName, alias: str, etag: str | None = None) -> tuple[Move, ...]:
        """All moves of an alias, newest last; the ones read last, if they are up to `etag`."""
        log = self._log
        if not log or (log[-1].adapter, log[-1].alias, log[-1].etag) != (adapter, alias, etag):
            self._log = log = tuple(self._store.moves(adapter, alias))
        if log:
            # Who has read the log need not ask for its end once more.
            self._recall(adapter, self._moves, (adapter, alias, log[-1].etag), lambda: log[-1])
        return log

    def pointing(self, refs: Refs, alias: str) -> Move:
        """The last move of an alias that points somewhere; AliasNotFound names those that do."""
        move = self.head(refs, alias)
        if move is not None and move.to:
            return move
        heads = [self.head(refs, name) for name in sorted(refs.aliases)]
        there = ", ".join(head.alias for head in heads if head and head.to)
        raise AliasNotFound(
            f"{refs.adapter} has no alias {alias!r}; it has: {there or 'none yet, promote a version first'}",
            details={"adapter": str(refs.adapter), "alias": alias},
        )

    def version(self, refs: Refs, number: int) -> Version:
        """The version with this number; VersionNotFound names those there are."""
        commit = refs.versions.get(number)
        if commit is None:
            raise _no_version(refs, f"v{number}")
        return Version(refs.adapter, number, commit, self.digest(refs.adapter, commit))

    def version_at(self, refs: Refs, commit: str) -> Version:
        """The version with this commit; VersionNotFound names those there are."""
        for number, found in refs.versions.items():
            if found == commit:
                return self.version(refs, number)
        raise _no_version(refs, commit)

    def age_seconds(self, adapter: AdapterName) -> float | None:
        """How long ago the refs that count now were true; None if they were never read."""
        known = self._refs.get(adapter)
        return None if known is None else (datetime.now(UTC) - known.at).total_seconds()

    def forget(self, adapter: AdapterName) -> None:
        """Read this adapter's refs again when they are asked for next."""
        self._refs.pop(adapter, None)

    def _last_known(self, adapter: AdapterName, error: RegistryUnavailable) -> Known:
        known = self._refs.get(adapter)
        if recalled := self._recollection.load(adapter):
            self._moves.update({(adapter, m.alias, m.etag): m for m in recalled.moves.values()})
            self._digests.update({(adapter, commit): sha for commit, sha in recalled.manifests.items()})
            known = known or Known(0, recalled.refs, recalled.at)
        if known is None:
            raise error
        log.warning("%s does not answer; %s is taken as it was at %s", self._store.url, adapter, known.at)
        return known

    def _keep(self, adapter: AdapterName) -> None:
        """Write down what is known now, unless the store is on this disk itself."""
        known = self._refs.get(adapter)
        if known is None or self._store.generation() is not None:
            return
        refs = known.refs
        found = (self._moves.get((adapter, alias, etag)) for alias, etag in refs.aliases.items())
        moves = {move.etag: move for move in found if move}
        digests = {
            c: self._digests[adapter, c] for c in refs.versions.values() if (adapter, c) in self._digests
        }
        recalled = Recalled(known.at, refs, moves, digests)
        kept = self._kept.get(adapter)
        if (
            kept is None
            or replace(kept, at=known.at) != recalled
            or (known.at - kept.at).total_seconds() > _KEEP_SECONDS
        ):
            self._recollection.save(recalled)
            self._kept[adapter] = recalled

    def _recall(
        self, adapter: AdapterName, memory: dict[Key, Value], key: Key, read: Callable[[], Value]
    ) -> Value:
        value = memory.get(key)
        if value is None:
            value = read()
            with self._lock:
                if len(memory) >= _REMEMBERED:
                    memory.pop(next(iter(memory)))
                memory[key] = value
            self._keep(adapter)
        return value


def _no_version(refs: Refs, wanted: str) -> VersionNotFound:
    tags = [f"v{number}" for number in refs.versions]
    there = ", ".join(tags if len(tags) <= 8 else [*tags[:2], "...", *tags[-5:]])
    return VersionNotFound(
        f"{refs.adapter} has no version {wanted}; it has: {there or 'none'}",
        details={"adapter": str(refs.adapter), "version": wanted},
    )
