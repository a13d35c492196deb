"""What a registry tells: versions, aliases, history, bytes. Nothing is handed out that was not verified."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hotshoe.adapter.errors import (
    HotshoeError,
    InvalidRequest,
    Refused,
    RegistryUnavailable,
    Tampered,
    VersionNotFound,
)
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import DEFAULT_ALIAS, AdapterName, AdapterRef, Alias, VersionNumber
from hotshoe.adapter.version import Version
from hotshoe.registry.aliases import choose, move_at
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.search import Query, search
from hotshoe.registry.store import Progress, Refs, Store, unseen
from hotshoe.registry.values import (
    AdapterState,
    AdapterSummary,
    AliasState,
    Answer,
    Change,
    Move,
    Proof,
    Publication,
    Target,
    VersionState,
    targets_text,
)
from hotshoe.registry.verification import check_tree

if TYPE_CHECKING:
    from hotshoe.registry.trust import Trust

log = logging.getLogger(__name__)


class Reader:
    """One store, as those see it who change nothing. Synchronous and thread-safe; close it, or use it as a
    context manager."""

    def __init__(self, store: Store, knowledge: Knowledge, cache: Cache, trust: Trust | None = None) -> None:
        self.store = store
        self._known = knowledge
        self._cache = cache
        self._trust = trust

    @property
    def url(self) -> str:
        """What `open_registry` takes to open it again."""
        return self.store.url

    def resolve(self, ref: AdapterRef, *, session: str | None = None) -> Version:
        """The version that `ref` names now; the alias `prod` where it has no selector.

        session: keeps a caller on one side of an alias that splits. Raises AdapterNotFound,
        VersionNotFound, AliasNotFound; RegistryUnavailable only where nothing is known from before.
        """
        return choose(self.targets(ref), session).version

    def version(self, ref: AdapterRef) -> Version:
        """As `resolve`, for who means one version and no other: Refused where an alias splits."""
        first, *others = self.targets(ref)
        if others:
            raise Refused(
                f"{ref} is split between versions, {targets_text((first, *others))}: name the one you mean, "
                f"{ref.adapter}@v{first.version.number}"
            )
        return first.version

    def targets(self, ref: AdapterRef, *, fresh: bool = False) -> tuple[Target, ...]:
        """The versions that `ref` may name now, by weight: one, unless it is an alias that splits.

        Otherwise as `resolve`, for those who resolve many times from their own memory. fresh: what the
        store says now, and RegistryUnavailable where it does not answer, whatever is known from before.
        """
        return self._named(ref, self._known.refs(ref.adapter, fresh=fresh))

    def answer(self, ref: AdapterRef) -> Answer:
        """As `targets`, and whether the store said so now or this is what was known of it before."""
        known = self._known.known(ref.adapter)
        return Answer(self._named(ref, known.refs), known.recalled)

    def age_seconds(self, name: AdapterName) -> float | None:
        """How old the knowledge is that `resolve` answers from; None if there is none yet."""
        return self._known.age_seconds(name)

    def manifest(self, version: Version) -> Manifest:
        """The version's manifest; raise Tampered unless it has the digest that `version` names."""
        try:
            manifest = self._known.manifest(version.adapter, version.commit)
        except RegistryUnavailable:
            if here := self._cache.manifest(version):
                return here
            raise
        if self._known.digest(version.adapter, version.commit) != version.manifest_sha256:
            raise Tampered(f"the manifest of {version} is not the one that was published: do not use it")
        return manifest

    def fetch(self, version: Version) -> Path:
        """A folder with adapter_config.json and the weights, every byte verified, never to change.

        It stays in place until `release` was called as often as `fetch`, or the registry is closed.
        Raises Untrusted where the trust policy does not take the version, also one that is here already.
        """
        self.check_trust(version)

        def fill(folder: Path) -> Manifest:
            manifest = self.manifest(version)
            check_tree(version, manifest, self.store.tree(version.adapter, version.commit))
            paths = [entry.path for entry in manifest.files]
            self.store.fetch(version.adapter, version.commit, paths, folder)
            return manifest

        return self._cache.hold(version, fill)

    def check_trust(self, version: Version) -> None:
        """Raise Untrusted unless the trust policy takes the version; without a policy all are taken."""
        if self._trust is not None:
            self._trust.check(version, self.manifest(version))

    def release(self, version: Version) -> None:
        """Give back what one `fetch` holds; the cache may delete it from now on."""
        self._cache.release(version)

    @contextlib.contextmanager
    def fetched(self, version: Version) -> Iterator[Path]:
        """The folder of `fetch`, which stays in place until the block ends."""
        folder = self.fetch(version)
        try:
            yield folder
        finally:
            self.release(version)

    def adapters(self, query: Query | None = None) -> list[AdapterSummary]:
        """Every adapter there is, or every one that matches, by name."""
        return search(self.store.survey(), query or Query())

    def show(self, name: AdapterName) -> AdapterState:
        """Everything about one adapter; AdapterNotFound."""
        refs = self.store.refs(name)
        versions = tuple(self._states(refs))
        heads = {alias: self._known.head(refs, alias) for alias in sorted(refs.aliases)}
        return AdapterState(
            name, versions, {alias: AliasState(move) for alias, move in heads.items() if move and move.to}
        )

    def history(self, name: AdapterName, alias: str | None = None) -> list[Move]:
        """Who moved what, newest last; of one alias, or of all of the adapter's."""
        refs = self.store.refs(name)
        if alias is not None and self._known.head(refs, alias) is None:
            self._known.pointing(refs, alias)
        moves = [
            move for each in ([alias] if alias else refs.aliases) for move in self.store.moves(name, each)
        ]
        return sorted(moves, key=lambda move: move.at) if alias is None else moves

    def at(self, name: AdapterName, alias: str, when: datetime) -> Move:
        """The move that was in force at `when` (aware time): where the alias pointed then, by whom and why.

        Raises AliasNotFound where it pointed nowhere then.
        """
        return move_at(self.history(name, alias), when)

    def events(
        self,
        cursor: str | None = None,
        adapters: Collection[AdapterName] | None = None,
        *,
        poll_seconds: float = 1.0,
        stop: threading.Event | None = None,
    ) -> Iterator[Change]:
        """What moves from now on (or since `cursor`), one by one, until `stop` is set.

        An outage of the store, or a token that it does not take for a while, delays events and loses none.
        """
        stop = stop or threading.Event()
        while not stop.is_set():
            try:
                changes, cursor = self.changes(cursor, adapters)
            except InvalidRequest:
                raise  # The cursor is wrong, and will be.
            except HotshoeError as error:
                log.warning("no events can be read now: %s", error)
                changes = []
            yield from changes
            if not changes:
                stop.wait(poll_seconds)

    def changes(
        self, cursor: str | None, adapters: Collection[AdapterName] | None = None
    ) -> tuple[list[Change], str]:
        """What moved since `cursor`, oldest first, and the next cursor. None: only tell the cursor of now.

        adapters: look at these only, which is what makes it affordable on the Hub.
        """
        changes, following = self.store.changes(cursor, adapters)
        for adapter in {change.adapter for change in changes}:
            self._known.forget(adapter)
        return changes, following

    def verify(self, head: str | None = None, progress: Progress = unseen) -> Proof:
        """Prove that all is as it was written, or raise Tampered; in a folder every byte is hashed too.

        head: of an earlier proof, noted elsewhere. Without one a log whose end was cut off looks whole.
        """
        return self.store.verify(head, progress)

    def close(self) -> None:
        """Give back files and connections; closing twice is no error."""
        self._cache.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _states(self, refs: Refs) -> Iterator[VersionState]:
        publications = self.store.publications(refs.adapter)
        for number in refs.versions:
            try:
                yield self._state(refs, number, publications)
            except (Tampered, VersionNotFound):
                # Let go since the refs were read, which is no wrong; or for a moment only, on the Hub.
                if number in self.store.refs(refs.adapter).versions:
                    yield self._state(refs, number, self.store.publications(refs.adapter))

    def _state(self, refs: Refs, number: int, publications: Mapping[str, Publication]) -> VersionState:
        version = self._known.version(refs, number)
        if version.commit not in publications:
            raise Tampered(f"{version} is none that was published: `hotshoe verify` tells what was moved")
        return VersionState(version, self.manifest(version), publications[version.commit])

    def _named(self, ref: AdapterRef, refs: Refs) -> tuple[Target, ...]:
        selector = ref.selector or Alias(DEFAULT_ALIAS)
        if isinstance(selector, Alias):
            return self._known.pointing(refs, selector.name).to
        if isinstance(selector, VersionNumber):
            return (Target(self._known.version(refs, selector.number)),)
        return (Target(self._known.version_at(refs, selector.sha)),)
