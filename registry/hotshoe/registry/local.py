"""The store in a folder: no account, no network, the same promises as on the Hub.

    index.sqlite   who, what, when: the log of events and what follows from it (local_index)
    blobs/         the bytes, by sha256 (local_blobs)
    staging/       bytes on their way in

Every change is one SQLite transaction that comes after its bytes are on disk. A death before it leaves
bytes that nobody can reach, which `sweep` deletes; a death after it leaves the whole change.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from sqlite3 import Connection

from hotshoe.adapter.errors import (
    AdapterNotFound,
    Conflict,
    InvalidRequest,
    RegistryUnavailable,
    Tampered,
    VersionNotFound,
)
from hotshoe.adapter.manifest import MAX_MANIFEST_BYTES
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import local_events as events
from hotshoe.registry.disk import using_disk
from hotshoe.registry.local_blobs import ROOM, Blobs
from hotshoe.registry.local_index import Index, append_event
from hotshoe.registry.store import Files, Progress, Refs, gone, unseen
from hotshoe.registry.values import (
    AdapterSummary,
    Change,
    Marker,
    Move,
    Proof,
    Publication,
    check_retirable,
    targets_text,
)

_CURSOR = re.compile(r"[0-9]{1,18}")
_FILES_OF = (
    "FROM file f JOIN version v ON v.tree = f.tree JOIN adapter a ON a.id = v.adapter "
    "WHERE f.tree = ? AND a.name = ?"
)


class LocalStore:
    """A `Store` under one folder, which is made where it is missing. Any number of processes may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().absolute()
        try:
            self._blobs = Blobs(self._folder)
        except OSError as error:
            raise RegistryUnavailable(
                f"no registry can be kept in {self._folder}: {error.strerror}; name a folder that this user "
                "may write to, with --registry or HOTSHOE_REGISTRY"
            ) from error
        # Bytes without an index are a registry that lost it: to begin anew would give its numbers again, and
        # the next sweep would take the bytes.
        self._index = Index(self._folder / "index.sqlite", new=self._blobs.empty())

    @property
    def url(self) -> str:
        return str(self._folder)

    def generation(self) -> int:
        return self._index.generation()

    def survey(self) -> Iterable[AdapterSummary]:
        aliases: dict[int, dict[str, str]] = {}
        for adapter, name, shown in self._index.each(
            "SELECT adapter, name, shown FROM alias WHERE shown != ''"
        ):
            aliases.setdefault(adapter, {})[name] = shown
        for adapter, name, count, latest, summary in self._index.each(
            # SQLite takes the bare column `summary` from the row that has the max().
            "SELECT a.id, a.name, count(*), max(v.number), v.summary FROM version v JOIN adapter a "
            "ON a.id = v.adapter WHERE NOT v.retired GROUP BY a.id ORDER BY a.name"
        ):
            yield events.summary(name, latest, count, aliases.get(adapter, {}), summary)

    def refs(self, adapter: AdapterName) -> Refs:
        rows = self._index.rows(
            "SELECT number, tree, NULL FROM version WHERE adapter = (SELECT id FROM adapter WHERE name = ?1) "
            "AND NOT retired UNION ALL "
            "SELECT NULL, name, etag FROM alias WHERE adapter = (SELECT id FROM adapter WHERE name = ?1)",
            str(adapter),
        )
        if not rows:
            raise AdapterNotFound(
                f"{adapter} is not in the registry {self.url}; `hotshoe list` shows what is"
            )
        versions = {number: tree for number, tree, _ in rows if number is not None}
        aliases = {name: etag for number, name, etag in rows if number is None}
        return Refs(adapter, dict(sorted(versions.items())), aliases)

    def publications(self, adapter: AdapterName) -> Mapping[str, Publication]:
        rows = self._index.rows(
            "SELECT v.tree, e.body FROM version v JOIN event e ON e.seq = v.event "
            "JOIN adapter a ON a.id = v.adapter WHERE a.name = ? AND NOT v.retired",
            str(adapter),
        )
        return {tree: events.publication(body) for tree, body in rows}

    def read(self, adapter: AdapterName, commit: str, path: str) -> bytes:
        with using_disk(f"{path} of {adapter} cannot be read from {self.url}", ROOM):
            try:
                return self._blobs.read(self._sha256(adapter, commit, path), MAX_MANIFEST_BYTES)
            except FileNotFoundError as error:
                raise self._lost(adapter, commit, path) from error

    def tree(self, adapter: AdapterName, commit: str) -> Mapping[str, int]:
        rows = self._index.rows(f"SELECT f.path, f.size {_FILES_OF}", commit, str(adapter))
        if not rows:
            raise VersionNotFound(f"{adapter} has no version with commit {commit[:12]} in {self.url}")
        return dict(rows)

    def fetch(self, adapter: AdapterName, commit: str, paths: Sequence[str], folder: Path) -> None:
        for path in paths:
            target = folder / path
            with using_disk(f"{path} of {adapter} cannot be copied from {self.url}", ROOM):
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    shutil.copyfile(self._blobs.path(self._sha256(adapter, commit, path)), target)
                except FileNotFoundError as error:
                    raise self._lost(adapter, commit, path) from error

    def staging(self) -> AbstractContextManager[Path]:
        return self._blobs.staging()

    def add_version(
        self,
        adapter: AdapterName,
        files: Files,
        publication: Publication,
        *,
        newest: int,
        number: int,
    ) -> str:
        summary = events.summary_of(files)
        with (
            using_disk(f"{adapter}@v{number} cannot be kept in {self.url}", ROOM),
            self._blobs.settled(files) as settled,
            self._index.writing() as connection,
        ):
            # Inside the transaction, so that no sweep can take the blobs before the rows name them.
            row = _adapter_id(connection, adapter)
            found = connection.execute(
                "SELECT coalesce(max(number), 0) FROM version WHERE adapter = ?", (row,)
            ).fetchone()[0]
            if found != newest:
                raise Conflict(
                    f"{adapter} is at v{found} by now, not at v{newest}: read again, then publish",
                    details={"adapter": str(adapter), "target": f"v{found}"},
                )
            self._blobs.place(settled.values())
            entries = [(path, blob.size, blob.sha256) for path, blob in settled.items()]
            commit = events.commit_of(adapter, number, entries)
            body = events.version_added(adapter, number, commit, entries, publication)
            event, _ = append_event(connection, row, None, body)
            connection.execute(
                "INSERT INTO version (adapter, number, tree, event, summary) VALUES (?, ?, ?, ?, ?)",
                (row, number, commit, event, summary),
            )
            connection.executemany(
                "INSERT INTO file VALUES (?, ?, ?, ?)", [(commit, *entry) for entry in entries]
            )
        return commit

    def move_alias(
        self,
        adapter: AdapterName,
        alias: str,
        marker: Marker,
        *,
        expected: str | None,
        recorded: bool = False,
    ) -> str:
        with self._index.writing() as connection:
            row = _adapter_id(connection, adapter)
            found = connection.execute(
                "SELECT etag, shown FROM alias WHERE adapter = ? AND name = ?", (row, alias)
            ).fetchone() or (None, "")
            if found[0] != expected:
                raise Conflict(
                    f"{adapter}@{alias} moved: it is at {found[1] or 'nothing'} with etag {found[0]}, "
                    f"not at etag {expected}; look at it again, then promote",
                    details={"adapter": str(adapter), "etag": found[0] or "", "target": found[1]},
                )
            for target in () if recorded else marker.to:
                # What was retired a moment ago can be pointed to no more.
                if not connection.execute(
                    "SELECT 1 FROM version WHERE adapter = ? AND number = ? AND tree = ? AND NOT retired",
                    (row, target.version.number, target.version.commit),
                ).fetchone():
                    raise gone(self.url, target.version)
            body = events.alias_moved(adapter, alias, marker)
            _, etag = append_event(connection, row, alias, body)
            shown = targets_text(marker.to) if marker.to else ""
            connection.execute("INSERT OR REPLACE INTO alias VALUES (?, ?, ?, ?)", (row, alias, etag, shown))
        return etag

    def move(self, adapter: AdapterName, alias: str, etag: str) -> Move:
        for body in self._index.rows("SELECT body FROM event WHERE etag = ? AND alias = ?", etag, alias):
            move = events.move(etag, body[0])
            if (move.adapter, move.alias) == (adapter, alias):
                return move
        raise VersionNotFound(f"{adapter}@{alias} never had the etag {etag}")

    def moves(self, adapter: AdapterName, alias: str) -> list[Move]:
        rows = self._index.rows(
            "SELECT e.etag, e.body FROM event e JOIN adapter a ON a.id = e.adapter "
            "WHERE a.name = ? AND e.alias = ? ORDER BY e.seq",
            str(adapter),
            alias,
        )
        return [events.move(etag, body) for etag, body in rows]

    def retire(self, adapter: AdapterName, number: int) -> None:
        with self._index.writing() as connection:
            row = _adapter_id(connection, adapter)
            found = connection.execute(
                "SELECT tree FROM version WHERE adapter = ? AND number = ? AND NOT retired", (row, number)
            ).fetchone()
            if found is None:
                raise VersionNotFound(f"{adapter} has no version v{number} in {self.url}")
            newest = connection.execute(
                "SELECT max(number) FROM version WHERE adapter = ?", (row,)
            ).fetchone()[0]
            heads = connection.execute(
                "SELECT e.etag, e.body FROM alias a JOIN event e ON e.etag = a.etag WHERE a.adapter = ?",
                (row,),
            )
            check_retirable(adapter, number, newest, [events.move(etag, body) for etag, body in heads])
            connection.execute(
                "UPDATE version SET retired = 1 WHERE adapter = ? AND number = ?", (row, number)
            )
            connection.execute("DELETE FROM file WHERE tree = ?", found)
            append_event(connection, row, None, events.version_retired(adapter, number))

    def sweep(self) -> int:
        # As the only writer: nobody is between placing blobs and naming them.
        with self._index.writing() as connection:
            wanted = {row[0] for row in connection.execute("SELECT DISTINCT sha256 FROM file")}
            return self._blobs.sweep(wanted)

    def changes(
        self, cursor: str | None, adapters: Collection[AdapterName] | None = None
    ) -> tuple[list[Change], str]:
        if cursor is None:
            return [], str(self._index.rows("SELECT coalesce(max(seq), 0) FROM event")[0][0])
        if not _CURSOR.fullmatch(cursor):
            raise InvalidRequest(f"{cursor[:40]!r} is no cursor that this registry gave: begin with none")
        rows = self._index.rows("SELECT seq, etag, body FROM event WHERE seq > ? ORDER BY seq", int(cursor))
        changes = [events.change(etag, body) for _, etag, body in rows]
        return (
            [c for c in changes if c is not None and (adapters is None or c.adapter in adapters)],
            str(rows[-1][0]) if rows else cursor,
        )

    def verify(self, head: str | None = None, progress: Progress = unseen) -> Proof:
        # Imported here: it is needed rarely, and never in a hurry.
        from hotshoe.registry.local_verify import verify_store

        return verify_store(self._index, self._blobs, self.url, head, progress)

    def close(self) -> None:
        self._index.close()

    def _sha256(self, adapter: AdapterName, commit: str, path: str) -> str:
        rows = self._index.rows(f"SELECT f.sha256 {_FILES_OF} AND f.path = ?", commit, str(adapter), path)
        if not rows:
            raise VersionNotFound(f"{adapter} has no file {path} at commit {commit[:12]} in {self.url}")
        return str(rows[0][0])

    def _lost(self, adapter: AdapterName, commit: str, path: str) -> Tampered:
        return Tampered(
            f"{path} of {adapter} at commit {commit[:12]} is gone from {self.url}/blobs: restore it from a "
            "backup or a mirror"
        )


def _adapter_id(connection: Connection, adapter: AdapterName) -> int:
    connection.execute("INSERT OR IGNORE INTO adapter (name) VALUES (?)", (str(adapter),))
    return int(connection.execute("SELECT id FROM adapter WHERE name = ?", (str(adapter),)).fetchone()[0])
