"""Proof that a local store is as its log tells: the log whole, what readers look up, and every byte.

What no log can prove of itself is that its newest entries were not cut off together with what follows
from them. For that somebody must have noted a head elsewhere; see `verify_store`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import TypeVar

from hotshoe.adapter.errors import InvalidRequest, Tampered
from hotshoe.adapter.manifest import MANIFEST_PATH, MAX_MANIFEST_BYTES
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import local_events as events
from hotshoe.registry.local_blobs import Blobs
from hotshoe.registry.local_events import Entry
from hotshoe.registry.local_index import GENESIS, Index, chained
from hotshoe.registry.store import Progress, unseen
from hotshoe.registry.values import Move, Proof, targets_text

_HEAD = re.compile(r"[0-9a-f]{64}")

_Named = tuple[str, int]
"""An adapter's name, and the number of one of its versions."""

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Published:
    """What the log says of a version. seq: the number of that event."""

    commit: str
    seq: int
    files: frozenset[Entry]


@dataclass(slots=True)
class _Told:
    """What follows from the log. heads: by adapter and alias, the last move."""

    count: int = 0
    head: str = GENESIS
    versions: dict[_Named, _Published] = field(default_factory=dict)
    retired: set[_Named] = field(default_factory=set)
    heads: dict[tuple[str, str], Move] = field(default_factory=dict)

    def live(self) -> Iterator[tuple[_Named, _Published]]:
        return ((named, each) for named, each in self.versions.items() if named not in self.retired)


def verify_store(
    index: Index, blobs: Blobs, url: str, head: str | None = None, progress: Progress = unseen
) -> Proof:
    """Raise Tampered at the first thing that is not as it was written.

    head: of an earlier proof, noted elsewhere; the log must still hold it, or it was cut off or replaced.
    InvalidRequest for what is no head.
    """
    if head is not None and not _HEAD.fullmatch(head):
        raise InvalidRequest(
            f"{head[:80]!r} is no head: give the 64 hex digits that `hotshoe verify` printed"
        )
    with index.snapshot() as connection:
        told = _read_log(connection, url, head)
        _check_aliases(connection, told)
        _check_versions(connection, told)
        _check_files(connection, told)
        _check_bytes(index, blobs, told, progress)
        _check_summaries(connection, blobs, told)
    return Proof(told.count, told.head)


def _read_log(connection: Connection, url: str, head: str | None) -> _Told:
    told, found = _Told(), head is None
    for seq, sha256, etag, adapter, alias, body in connection.execute(
        "SELECT e.seq, e.sha256, e.etag, a.name, e.alias, e.body FROM event e "
        "LEFT JOIN adapter a ON a.id = e.adapter ORDER BY e.seq"
    ):
        if sha256 != chained(told.head, body) or etag != sha256[:40]:
            raise Tampered(
                f"event {seq} of the registry {url} is not what was written; restore a backup. It says: "
                f"{body[:200]}"
            )
        event = json.loads(body)
        if (adapter, alias) != (event["adapter"], event.get("alias")):
            raise Tampered(
                f"event {seq} of the registry {url} is filed under {adapter}@{alias}, and tells of another: "
                f"{body[:200]}; restore a backup"
            )
        told.head, told.count = sha256, told.count + 1
        found = found or sha256 == head
        _follow(told, seq, etag, body)
    if not found:
        raise Tampered(
            f"the log of the registry {url} does not hold the entry {head}: its end was cut off, or it is "
            "another log; restore a backup that holds it"
        )
    return told


def _follow(told: _Told, seq: int, etag: str, body: str) -> None:
    event = json.loads(body)
    name = event["adapter"]
    if event["kind"] == "alias":
        move = events.move(etag, body)
        told.heads[name, move.alias] = move
    elif event["kind"] == "retired":
        told.retired.add((name, event["number"]))
    else:
        number, commit = event["number"], event["commit"]
        files: list[Entry] = [(path, size, sha256) for path, size, sha256 in event["files"]]
        if commit != events.commit_of(AdapterName.parse(name), number, files):
            raise Tampered(f"{name}@v{number} was published with a commit that is not that of its files")
        told.versions[name, number] = _Published(commit, seq, frozenset(files))


def _check_aliases(connection: Connection, told: _Told) -> None:
    rows = connection.execute(
        "SELECT a.name, t.name, t.etag, t.shown FROM alias t LEFT JOIN adapter a ON a.id = t.adapter"
    )
    found = {(adapter, alias): (etag, shown) for adapter, alias, etag, shown in rows}
    expected = {
        named: (head.etag, targets_text(head.to) if head.to else "") for named, head in told.heads.items()
    }
    for adapter, alias in _unlike(found.items(), expected.items()):
        now, then = (each.get((adapter, alias), ("", "nothing")) for each in (found, expected))
        raise Tampered(
            f"{adapter}@{alias} is at {now[1]} with etag {now[0][:12]}, the log left it at {then[1]} with "
            f"etag {then[0][:12]}: promote it again, and look who may write to the registry"
        )
    live = {named: each.commit for named, each in told.live()}
    for (adapter, alias), head in told.heads.items():
        for version in (target.version for target in head.to):
            if live.get((adapter, version.number)) != version.commit:
                raise Tampered(
                    f"{adapter}@{alias} points to {version.tag} with commit {version.commit[:12]}, which is "
                    "not in the registry: promote a version that is"
                )


def _check_versions(connection: Connection, told: _Told) -> None:
    rows = connection.execute(
        "SELECT a.name, t.number, t.tree, t.event, t.retired FROM version t "
        "LEFT JOIN adapter a ON a.id = t.adapter"
    )
    found = {(name, number): (tree, event, bool(retired)) for name, number, tree, event, retired in rows}
    expected = {
        named: (each.commit, each.seq, named in told.retired) for named, each in told.versions.items()
    }
    for name, number in _unlike(found.items(), expected.items()):
        raise Tampered(f"{name}@v{number} is not in the index as the log tells of it: restore a backup")


def _check_files(connection: Connection, told: _Told) -> None:
    found: dict[str, set[Entry]] = {}
    for tree, *entry in connection.execute("SELECT tree, path, size, sha256 FROM file"):
        found.setdefault(tree, set()).add((entry[0], entry[1], entry[2]))
    for (name, number), each in told.live():
        for path in _unlike(
            ((path, entry) for path, *entry in found.pop(each.commit, set())),
            ((path, entry) for path, *entry in each.files),
        ):
            raise Tampered(f"{path} of {name}@v{number} is not in the index as it was published")
    for tree in found:
        raise Tampered(f"the index holds files of {tree[:12]}, which is no version, or one that was retired")


def _check_bytes(index: Index, blobs: Blobs, told: _Told, progress: Progress) -> None:
    # The same bytes in many versions are one blob, and read once.
    wanted: dict[tuple[int, str], tuple[str, str, int]] = {}
    for (name, number), each in told.live():
        for path, size, sha256 in each.files:
            wanted.setdefault((size, sha256), (path, name, number))
    done, whole = 0, sum(size for size, _ in wanted)
    for (size, sha256), (path, name, number) in wanted.items():
        progress(done, whole)
        done += size
        # One that is missing was retired and swept since the proof began, if nothing names it any more.
        if not blobs.is_whole(sha256, size) and index.rows("SELECT 1 FROM file WHERE sha256 = ?", sha256):
            raise Tampered(
                f"{path} of {name}@v{number} is gone, or not the bytes that were published: publish the same "
                "files again, or restore a backup"
            )
    progress(whole, whole)


def _check_summaries(connection: Connection, blobs: Blobs, told: _Told) -> None:
    manifests = {
        each.commit: sha256
        for _, each in told.live()
        for path, _, sha256 in each.files
        if path == MANIFEST_PATH
    }
    for tree, summary in connection.execute("SELECT tree, summary FROM version"):
        if tree not in manifests or not blobs.path(manifests[tree]).exists():
            continue
        data = blobs.read(manifests[tree], MAX_MANIFEST_BYTES)
        if summary != events.summary_of({MANIFEST_PATH: data}):
            raise Tampered(f"what listings show of the version with commit {tree[:12]} is not its manifest's")


def _unlike(found: Iterable[tuple[Key, Value]], expected: Iterable[tuple[Key, Value]]) -> list[Key]:
    """The keys under which the two do not hold the same."""
    first, second = dict(found), dict(expected)
    return [key for key in {**second, **first} if first.get(key) != second.get(key)]
