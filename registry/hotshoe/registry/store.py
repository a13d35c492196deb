"""What the Registry needs of a place that keeps adapters. `local` is a folder, `hub` the Hugging Face Hub.

A store does four atomic things and no policy: add a version, move an alias, tell the refs, hand out bytes.
Everything the two have in common stands in `registry`: numbering and its retries, same content same
version, promotion ids, rollback, splits, and the verification of every byte that is fetched.

Trees and moves are immutable: whatever was read at a commit or an etag may be remembered for ever.

Errors, the same from every store: AdapterNotFound, VersionNotFound, Conflict, RegistryUnavailable (try
later; the change may or may not have happened), Unauthenticated, PermissionDenied, Tampered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotshoe.adapter.errors import Conflict
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry.values import AdapterSummary, Change, Marker, Move, Proof, Publication


@dataclass(frozen=True, slots=True)
class Staged:
    """A large file that lies in a store's staging folder, with its size in bytes and its sha256 (64 hex)."""

    path: Path
    size: int
    sha256: str


Files = Mapping[str, Staged | bytes]
"""A tree to be written: relative POSIX path to a staged file, or to the bytes themselves."""


Progress = Callable[[int, int], None]
"""Told while something long goes on: how much is done, and of how much."""


def unseen(done: int, whole: int) -> None:
    """The `Progress` that nobody watches."""


def gone(url: str, version: Version) -> Conflict:
    """What `Store.move_alias` raises for a version that it does not have."""
    return Conflict(
        f"{version} is not in {url} any more with commit {version.commit[:12]}: choose another version",
        details={"adapter": str(version.adapter), "version": version.tag},
    )


@dataclass(frozen=True, slots=True)
class Refs:
    """All that moves of one adapter, read in one call.

    versions: number to commit (40 hex), in rising order. aliases: name to etag, unset ones included.
    """

    adapter: AdapterName
    versions: Mapping[int, str]
    aliases: Mapping[str, str]

    @property
    def newest(self) -> int:
        """The highest number there ever was in sight; 0 before the first version."""
        return max(self.versions, default=0)


class Store(Protocol):
    """See the module. All methods are synchronous, and safe to call from many threads and processes."""

    @property
    def url(self) -> str:
        """What `open_registry` takes to open this store again; holds no secret."""
        ...

    def generation(self) -> int | None:
        """A number that differs after any change by anybody, if that costs microseconds; else None."""
        ...

    def survey(self) -> Iterable[AdapterSummary]:
        """Every adapter that has a version, sorted by name."""
        ...

    def refs(self, adapter: AdapterName) -> Refs:
        """What there is now; one call. AdapterNotFound where the adapter has never had a version."""
        ...

    def publications(self, adapter: AdapterName) -> Mapping[str, Publication]:
        """By commit, who published each version; AdapterNotFound as `refs`."""
        ...

    def read(self, adapter: AdapterName, commit: str, path: str) -> bytes:
        """A file of a version's tree, at most MAX_MANIFEST_BYTES; VersionNotFound if it is not there."""
        ...

    def tree(self, adapter: AdapterName, commit: str) -> Mapping[str, int]:
        """The paths of a version's tree with their sizes in bytes; VersionNotFound."""
        ...

    def fetch(self, adapter: AdapterName, commit: str, paths: Sequence[str], folder: Path) -> None:
        """Write these files of a version's tree under an empty `folder`. The caller verifies the bytes."""
        ...

    def staging(self) -> AbstractContextManager[Path]:
        """A private empty folder, gone at the end, from which `add_version` takes large files.

        A store on disk gives one on its own disk, moves files out of it, and believes their sha256.
        """
        ...

    def add_version(
        self,
        adapter: AdapterName,
        files: Files,
        publication: Publication,
        *,
        newest: int,
        number: int,
    ) -> str:
        """Make the tree of `files`, exactly those, version `number`, all or nothing; return its commit.

        `number` is over `newest`. Conflict unless the newest version is still `newest`; the caller reads
        refs again and decides. A store where tree and number are two steps (the Hub: commit, then tag)
        must see to it that a death between them is made good by whoever comes next: a head of `main` that
        holds a manifest and has no tag is given the next number first, and then the newcomer gets its
        Conflict, or, if the tree holds the same manifest, the commit. So readers never see half a version,
        and numbers have no gaps.
        """
        ...

    def move_alias(
        self,
        adapter: AdapterName,
        alias: str,
        marker: Marker,
        *,
        expected: str | None,
        recorded: bool = False,
    ) -> str:
        """Point an alias elsewhere, compare-and-set; return the new etag.

        expected: the etag it must have now, None where it must never have existed. Otherwise Conflict, and
        so it is for a version that is not there. An empty `marker.to` unsets it: the alias keeps its log
        and its etag. recorded: this is history that another registry tells, with more of it to come, so its
        versions may be gone; until then the alias names what nobody can fetch.
        """
        ...

    def move(self, adapter: AdapterName, alias: str, etag: str) -> Move:
        """The move that made this etag; VersionNotFound if there is none."""
        ...

    def moves(self, adapter: AdapterName, alias: str) -> list[Move]:
        """All moves of one alias, newest last; empty if there never was one."""
        ...

    def retire(self, adapter: AdapterName, number: int) -> None:
        """Take a version away; its number is never given again. No history is rewritten.

        Refused for the newest version, whose number is what the next one is counted from, and for one
        that an alias points to.
        """
        ...

    def sweep(self) -> int:
        """Mend what deaths left behind: delete what nobody can reach, give back to aliases what a
        collection took from them; return the bytes given back."""
        ...

    def changes(
        self, cursor: str | None, adapters: Collection[AdapterName] | None = None
    ) -> tuple[list[Change], str]:
        """What changed since `cursor`, oldest first, and the cursor to ask with next.

        None: nothing yet, tell me the cursor of now. adapters: look at these only (None: all); where every
        look costs a request, that is what makes it affordable.
        """
        ...

    def verify(self, head: str | None = None, progress: Progress = unseen) -> Proof:
        """Prove that all is as it was written; raise Tampered at the first thing that is not.

        head: of an earlier proof, which the log must still hold; InvalidRequest where there is no log.
        progress: counts bytes, or adapters where no bytes are read.
        """
        ...

    def close(self) -> None:
        """Give back files and connections; closing twice is no error."""
        ...
