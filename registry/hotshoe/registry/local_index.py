"""The SQLite index of a local store: one file in WAL mode, and in it the hash-chained log of events.

The log is the truth: every row of `event` holds the sha256 over its predecessor's sha256 and its own
body, and triggers refuse to change or delete one. `version`, `file` and `alias` are what readers look up.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import HotshoeError, Refused, RegistryUnavailable, Tampered
from hotshoe.registry.locks import file_lock

SCHEMA = 1
GENESIS = "0" * 64
_BUSY_SECONDS = 30
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""SQLite's words for a file that is not what was written. The last one stands for a missing table, too."""


_TABLES = """
CREATE TABLE adapter (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, etag TEXT NOT NULL UNIQUE,
    adapter INTEGER NOT NULL REFERENCES adapter, alias TEXT, body TEXT NOT NULL
);
CREATE INDEX event_by_alias ON event (adapter, alias);
CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TABLE version (
    adapter INTEGER NOT NULL REFERENCES adapter, number INTEGER NOT NULL, tree TEXT NOT NULL UNIQUE,
    event INTEGER NOT NULL REFERENCES event, summary TEXT NOT NULL, retired INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (adapter, number)
) WITHOUT ROWID;
CREATE TABLE file (
    tree TEXT NOT NULL, path TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (tree, path)
) WITHOUT ROWID;
CREATE INDEX file_by_sha256 ON file (sha256);
CREATE TABLE alias (
    adapter INTEGER NOT NULL REFERENCES adapter, name TEXT NOT NULL, etag TEXT NOT NULL, shown TEXT NOT NULL,
    PRIMARY KEY (adapter, name)
) WITHOUT ROWID;
"""


class Index:
    """Two connections to one SQLite file: a writer's, and a reader's that a long write does not hold up."""

    def __init__(self, path: Path, *, new: bool = True) -> None:
        """new: whether to make it where it is missing; otherwise that is Tampered."""
        self._path = path
        self._new = new
        self._writer_lock = threading.Lock()
        self._reader_lock = threading.Lock()
        with self._told_apart():
            self._writer = self._connect()
            self._reader = self._connect()
            self._reader.execute("PRAGMA query_only = 1")

    def generation(self) -> int:
        """A number that differs after any commit, by this process or another; costs microseconds."""
        with self._told_apart(), self._reader_lock:
            (value,) = self._reader.execute("PRAGMA data_version").fetchone()
            return int(value)

    def rows(self, sql: str, *parameters: Any) -> list[Any]:
        """All rows of a query, as of one moment."""
        with self._told_apart(), self._reader_lock:
            return self._reader.execute(sql, parameters).fetchall()

    def each(self, sql: str, size: int = 1000) -> Iterator[Any]:
        """Rows of a query that may be long, on a connection of its own."""
        with self._told_apart(), contextlib.closing(sqlite3.connect(self._path)) as connection:
            cursor = connection.execute(sql)
            while batch := cursor.fetchmany(size):
                yield from batch

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A reader of its own that sees all as of one moment, whatever is written meanwhile."""
        with self._told_apart(), contextlib.closing(self._connect()) as connection:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("BEGIN")
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Be the only writer of all processes; commit at the end, change nothing if anything is raised."""
        with self._told_apart(), self._writer_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # A COMMIT that failed (disk full) may leave the transaction open, or have ended it.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close both connections, each when whoever uses it is done: SQLite crashes under a query otherwise.

        Whoever comes later gets RegistryUnavailable.
        """
        with self._writer_lock, self._reader_lock:
            self._writer.close()
            self._reader.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        if self._schema(connection) != SCHEMA:
            with file_lock(self._path.with_suffix(".lock"), timeout=_BUSY_SECONDS):
                self._create(connection)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _create(self, connection: sqlite3.Connection) -> None:
        found = self._schema(connection)
        if found == SCHEMA:
            return
        if found:
            raise Refused(
                f"registry {self._path.parent} has schema {found}, this hotshoe reads {SCHEMA}: upgrade"
            )
        if not self._new:
            raise Tampered(
                f"registry {self._path.parent} has lost its {self._path.name}, which says what its bytes "
                "are: restore that from a backup, or mirror another registry into a new folder"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE;{_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")

    @staticmethod
    def _schema(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def _told_apart(self) -> Iterator[None]:
        """Say in the registry's words what SQLite says in its own."""
        try:
            yield
        except HotshoeError:
            raise
        except (sqlite3.Error, TimeoutError) as error:
            # The lowest byte is the kind; what stands over it tells more.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                raise Tampered(
                    f"the index of registry {self._path.parent} is damaged: {error}; restore "
                    f"{self._path.name} from a backup, or mirror another registry into a new folder"
                ) from error
            raise RegistryUnavailable(
                f"registry {self._path.parent} cannot be used now: {error}; see that its folder is on a "
                "local disk with room, that this user may write there, and try again"
            ) from error


def append_event(
    connection: sqlite3.Connection, adapter: int, alias: str | None, body: str
) -> tuple[int, str]:
    """Chain one event to the log, inside a `writing` block; return its sequence number and its etag."""
    last = connection.execute("SELECT sha256 FROM event ORDER BY seq DESC LIMIT 1").fetchone()
    sha256 = chained(last[0] if last else GENESIS, body)
    cursor = connection.execute(
        "INSERT INTO event (sha256, etag, adapter, alias, body) VALUES (?, ?, ?, ?, ?)",
        (sha256, sha256[:40], adapter, alias, body),
    )
    return int(cursor.lastrowid or 0), sha256[:40]


def chained(previous: str, body: str) -> str:
    """The sha256 of an event: over the one before it, and its own body."""
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()
