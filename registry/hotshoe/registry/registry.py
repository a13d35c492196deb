"""The registry: publish, resolve, fetch, promote, roll back, and tell who did what when.

It works the same over every `Store`. What belongs to both stands here: content that is there already is
the same version, lost races are run again, a promotion that is sent twice happens once, and nothing is
handed out that was not verified.
"""

from __future__ import annotations

import getpass
import random
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from hotshoe.adapter.errors import (
    AdapterNotFound,
    AliasNotFound,
    Conflict,
    RegistryUnavailable,
    Tampered,
    VersionNotFound,
)
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import DEFAULT_ALIAS, AdapterName, AdapterRef, Alias, Commit, VersionNumber
from hotshoe.adapter.version import Version
from hotshoe.registry.aliases import checked_weights, choose, previous_targets
from hotshoe.registry.base import BaseModel
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.publishing import draft_version
from hotshoe.registry.store import Refs, Store
from hotshoe.registry.values import (
    AdapterState,
    AdapterSummary,
    AliasState,
    Change,
    Marker,
    Move,
    Publication,
    Target,
    VersionState,
)

_ATTEMPTS = 200
_PAUSE_SECONDS = 0.02

UNSET = ""
"""As `expected`: the alias must point nowhere yet."""


class Registry:
    """Adapters, their versions and aliases, in one store. Synchronous and thread-safe.

    fresh_seconds: how long refs are believed where the store cannot say cheaply that nothing changed.
    """

    def __init__(self, store: Store, cache: Cache, *, fresh_seconds: float = 2.0) -> None:
        self._store = store
        self._cache = cache
        self._known = Knowledge(store, fresh_seconds)

    @property
    def url(self) -> str:
        return self._store.url

    def publish(
        self,
        folder: Path,
        name: AdapterName,
        *,
        base: BaseModel | None = None,
        actor: str = "",
        message: str = "",
    ) -> Version:
        """Make a PEFT folder the next version; the same content again is the version that it was.

        Raises InvalidRequest where nothing names the base, BaseMismatch, Unservable for what inspection
        finds, RegistryUnavailable. Whatever it raises, no half version is left; send it again.
        """
        with self._store.staging() as staging:
            draft = draft_version(folder, name, base, staging)
            digest = draft.manifest.sha256
            publication = Publication(actor or _user(), message, datetime.now(UTC), digest)
            for attempt in range(_ATTEMPTS):
                refs = self._refs_or_none(name)
                if there := self._same_content(refs, digest):
                    return there
                newest = refs.newest if refs else 0
                try:
                    commit = self._store.add_version(
                        name, draft.files, publication, newest=newest, number=newest + 1
                    )
                    return Version(name, newest + 1, commit, digest)
                except Conflict:
                    _pause(attempt)
            raise RegistryUnavailable(f"{name} is being published to by too many at once: try again")

    def resolve(self, ref: AdapterRef, *, session: str | None = None) -> Version:
        """The version that `ref` names now; the alias `prod` where it has no selector.

        session: keeps a caller on one side of an alias that splits. Raises AdapterNotFound,
        VersionNotFound, AliasNotFound, RegistryUnavailable.
        """
        name, selector = ref.adapter, ref.selector or Alias(DEFAULT_ALIAS)
        refs = self._known.refs(name)
        if isinstance(selector, Alias):
            return choose(self._alias(refs, selector.name).to, session).version
        if isinstance(selector, VersionNumber):
            return self._version(refs, selector.number)
        return self._version(refs, _number_of(refs, selector))

    def manifest(self, version: Version) -> Manifest:
        """The version's manifest; raise Tampered unless it has the digest that `version` names."""
        manifest = self._known.manifest(version.adapter, version.commit)
        if manifest.sha256 != version.manifest_sha256:
            raise Tampered(f"the manifest of {version} is not the one that was published: do not use it")
        return manifest

    def fetch(self, version: Version) -> Path:
        """A folder with adapter_config.json and the weights, every byte verified, never to change."""

        def fill(folder: Path) -> Manifest:
            manifest = self.manifest(version)
            paths = [entry.path for entry in manifest.files]
            self._store.fetch(version.adapter, version.commit, paths, folder)
            return manifest

        return self._cache.folder(version, fill)

    def promote(
        self,
        name: AdapterName,
        alias: str,
        number: int,
        *,
        expected: str | None = None,
        actor: str = "",
        reason: str = "",
        promotion_id: str | None = None,
    ) -> Move:
        """Point an alias to a version, compare-and-set.

        expected: the etag that the alias must have (UNSET: it must point nowhere); None: whatever it has.
        promotion_id: the same id sent again changes nothing and returns the move that it made.
        Raises Conflict, which names the etag and target there are, and VersionNotFound.
        """
        return self.split(
            name, alias, {number: 1}, expected=expected, actor=actor, reason=reason, promotion_id=promotion_id
        )

    def split(
        self,
        name: AdapterName,
        alias: str,
        weights: Mapping[int, int],
        *,
        expected: str | None = None,
        actor: str = "",
        reason: str = "",
        promotion_id: str | None = None,
    ) -> Move:
        """Point an alias to several versions by weight, `{8: 10, 7: 90}`; otherwise as `promote`."""
        shares = checked_weights(weights)

        def choose_targets(refs: Refs) -> tuple[Target, ...]:
            return tuple(Target(self._version(refs, number), weight) for number, weight in shares.items())

        return self._move(name, alias, "promote", choose_targets, expected, actor, reason, promotion_id)

    def rollback(
        self,
        name: AdapterName,
        alias: str,
        *,
        expected: str | None = None,
        actor: str = "",
        reason: str = "",
        promotion_id: str | None = None,
    ) -> Move:
        """Point an alias to where it pointed before; again, one further back. Otherwise as `promote`."""

        def choose_targets(refs: Refs) -> tuple[Target, ...]:
            self._alias_etag(refs, alias)
            return previous_targets(self._store.moves(name, alias), frozenset(refs.versions))

        return self._move(name, alias, "rollback", choose_targets, expected, actor, reason, promotion_id)

    def unset(
        self,
        name: AdapterName,
        alias: str,
        *,
        expected: str | None = None,
        actor: str = "",
        reason: str = "",
        promotion_id: str | None = None,
    ) -> Move:
        """Make an alias point nowhere; its history stays. Otherwise as `promote`."""

        def choose_targets(refs: Refs) -> tuple[Target, ...]:
            self._alias(refs, alias)
            return ()

        return self._move(name, alias, "unset", choose_targets, expected, actor, reason, promotion_id)

    def adapters(self) -> list[AdapterSummary]:
        """Every adapter there is, by name."""
        return list(self._store.survey())

    def show(self, name: AdapterName) -> AdapterState:
        """Everything about one adapter; AdapterNotFound."""
        refs = self._store.refs(name)
        publications = self._store.publications(name)
        versions = tuple(
            VersionState(version, self.manifest(version), publications[version.commit])
            for version in (self._version(refs, number) for number in refs.versions)
        )
        heads = {alias: self._head(refs, alias) for alias in sorted(refs.aliases)}
        return AdapterState(
            name, versions, {alias: AliasState(move) for alias, move in heads.items() if move and move.to}
        )

    def history(self, name: AdapterName, alias: str | None = None) -> list[Move]:
        """Who moved what, newest last; of one alias, or of all of the adapter's."""
        refs = self._store.refs(name)
        if alias is not None:
            self._alias_etag(refs, alias)
        moves = [
            move for each in ([alias] if alias else refs.aliases) for move in self._store.moves(name, each)
        ]
        return sorted(moves, key=lambda move: move.at) if alias is None else moves

    def changes(
        self, cursor: str | None, adapters: Collection[AdapterName] | None = None
    ) -> tuple[list[Change], str]:
        """What moved since `cursor`, oldest first, and the next cursor. None: only tell the cursor of now."""
        changes, following = self._store.changes(cursor, adapters)
        for adapter in {change.adapter for change in changes}:
            self._known.forget(adapter)
        return changes, following

    def verify(self) -> int:
        """Prove the log whole: the number of entries checked, or Tampered at the first bad one."""
        return self._store.verify()

    def close(self) -> None:
        self._store.close()

    def _move(
        self,
        name: AdapterName,
        alias: str,
        action: str,
        choose_targets: Callable[[Refs], tuple[Target, ...]],
        expected: str | None,
        actor: str,
        reason: str,
        promotion_id: str | None,
    ) -> Move:
        Alias(alias)
        if promotion_id and (done := self._landed(name, alias, promotion_id)):
            return done
        promotion_id = promotion_id or uuid.uuid4().hex
        for attempt in range(_ATTEMPTS):
            refs = self._store.refs(name)
            head = self._head(refs, alias)
            if head and head.promotion_id == promotion_id:
                return head
            _check_expected(name, alias, head, expected)
            to = choose_targets(refs)
            if head and head.to == to:
                return head
            before = head.to if head else ()
            etag = head.etag if head else None
            marker = Marker(
                action, to, before, etag, actor or _user(), reason, promotion_id, datetime.now(UTC)
            )
            try:
                new = self._store.move_alias(name, alias, marker, expected=etag)
            except Conflict:
                _pause(attempt)
            except RegistryUnavailable:
                # The answer may be what was lost, not the move.
                if done := self._landed(name, alias, promotion_id):
                    return done
                raise
            else:
                self._known.forget(name)
                return Move(name, alias, new, marker)
        raise RegistryUnavailable(f"{name}@{alias} is being moved by too many at once: try again")

    def _landed(self, name: AdapterName, alias: str, promotion_id: str) -> Move | None:
        moves = self._store.moves(name, alias)
        return next((move for move in moves if move.promotion_id == promotion_id), None)

    def _head(self, refs: Refs, alias: str) -> Move | None:
        etag = refs.aliases.get(alias)
        return None if etag is None else self._known.move(refs.adapter, alias, etag)

    def _alias(self, refs: Refs, alias: str) -> Move:
        move = self._known.move(refs.adapter, alias, self._alias_etag(refs, alias))
        if not move.to:
            raise self._no_alias(refs, alias)
        return move

    def _alias_etag(self, refs: Refs, alias: str) -> str:
        if alias not in refs.aliases:
            raise self._no_alias(refs, alias)
        return refs.aliases[alias]

    def _no_alias(self, refs: Refs, alias: str) -> AliasNotFound:
        heads = {name: self._head(refs, name) for name in sorted(refs.aliases)}
        there = ", ".join(name for name, move in heads.items() if move and move.to)
        return AliasNotFound(
            f"{refs.adapter} has no alias {alias!r}; it has: {there or 'none yet, promote a version first'}",
            details={"adapter": str(refs.adapter), "alias": alias},
        )

    def _version(self, refs: Refs, number: int) -> Version:
        commit = refs.versions.get(number)
        if commit is None:
            raise VersionNotFound(
                f"{refs.adapter} has no version v{number}; it has: {_numbers_text(refs)}",
                details={"adapter": str(refs.adapter), "version": f"v{number}"},
            )
        return Version(refs.adapter, number, commit, self._known.manifest(refs.adapter, commit).sha256)

    def _refs_or_none(self, name: AdapterName) -> Refs | None:
        try:
            return self._store.refs(name)
        except AdapterNotFound:
            return None

    def _same_content(self, refs: Refs | None, digest: str) -> Version | None:
        if refs is None:
            return None
        told = self._store.publications(refs.adapter)
        for number, commit in refs.versions.items():
            if commit in told and told[commit].manifest_sha256 == digest:
                return Version(refs.adapter, number, commit, digest)
        return None


def _check_expected(name: AdapterName, alias: str, head: Move | None, expected: str | None) -> None:
    """Raise Conflict unless the alias is where the caller believes it to be."""
    if expected is None:
        return
    there = head.etag if head and head.to else UNSET
    # An unset alias has an etag too, for those who read it from the history.
    if expected != there and not (head and expected == head.etag):
        target = head.version.tag if head and head.version else "nothing"
        raise Conflict(
            f"{name}@{alias} is at {target} with etag {there or 'none'}, not at etag {expected or 'none'}: "
            "look at it again, then promote",
            details={"adapter": str(name), "alias": alias, "etag": there, "target": target},
        )


def _number_of(refs: Refs, selector: Commit) -> int:
    for number, commit in refs.versions.items():
        if commit == selector.sha:
            return number
    raise VersionNotFound(
        f"{refs.adapter} has no version with commit {selector}; it has: {_numbers_text(refs)}",
        details={"adapter": str(refs.adapter), "version": selector.sha},
    )


def _numbers_text(refs: Refs) -> str:
    tags = [f"v{number}" for number in refs.versions]
    return ", ".join(tags if len(tags) <= 8 else [*tags[:2], "...", *tags[-5:]]) or "none"


def _pause(attempt: int) -> None:
    """Let the others pass; longer, and less predictably, the more often it was lost."""
    time.sleep(random.uniform(0, _PAUSE_SECONDS * min(2**attempt, 16)))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
