"""Who used how much: a table of tokens by day, tenant, adapter and version, in one SQLite file.

It is written twice a second by a thread of its own, so a request never waits for the disk and a
`kill -9` loses at most a second. A power cut may lose more: what the system had not yet put on the disk.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.serve.call import Call, Observer

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.5
BUSY_SECONDS = 5.0
SCHEMA = 1

_CREATE = """
CREATE TABLE IF NOT EXISTS usage (
  day TEXT NOT NULL,      -- UTC, 2026-11-23
  tenant TEXT NOT NULL,   -- empty where nobody is asked who they are
  adapter TEXT NOT NULL,  -- org/name; empty for the base alone
  version TEXT NOT NULL,  -- v7
  requests INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  cached_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  PRIMARY KEY (day, tenant, adapter, version)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  requests = requests + excluded.requests,
  failed = failed + excluded.failed,
  prompt_tokens = prompt_tokens + excluded.prompt_tokens,
  cached_tokens = cached_tokens + excluded.cached_tokens,
  output_tokens = output_tokens + excluded.output_tokens
"""

Who = tuple[str, str, str]


@dataclass(slots=True)
class _Amount:
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0


class Ledger(Observer):
    """Writes down what calls cost. A request that is refused before it has a version costs nothing.

    Tokens count as they come, so a long answer is in the books before it ends. Several servers may
    write into one file on one machine.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: dict[Who, _Amount] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)

    def on_resolved(self, call: Call) -> None:
        with self._lock:
            amount = self._of(_who(call))
            amount.requests += 1
            amount.prompt_tokens += call.prompt_tokens

    def on_tokens(self, call: Call, tokens: int, gap_seconds: float) -> None:
        with self._lock:
            amount = self._of(_who(call))
            amount.output_tokens += tokens
            if call.chunks == 1:
                amount.cached_tokens += call.cached_tokens

    def on_end(self, call: Call) -> None:
        if call.resolved is not None and call.outcome != "OK":
            with self._lock:
                self._of(_who(call)).failed += 1

    @contextlib.contextmanager
    def writing(self) -> Iterator[Ledger]:
        """Write until the block ends, and the rest then. Raises InvalidConfig if the file is none of ours."""
        with open_ledger(self._path):
            pass  # Refused before anything is served.
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    def _of(self, who: Who) -> _Amount:
        amount = self._pending.get(who)
        if amount is None:
            amount = self._pending[who] = _Amount()
        return amount

    def _write(self) -> None:
        stopped, failing = False, False
        while not stopped:
            stopped = self._stop.wait(FLUSH_SECONDS)
            try:
                self._flush()
                failing = False
            except (sqlite3.Error, InvalidConfig) as error:
                # Kept and tried again with the next ones; said once.
                if not failing:
                    log.error("usage cannot be written to %s for now: %s", self._path, error)
                failing = True

    def _flush(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        day = datetime.now(UTC).date().isoformat()
        try:
            with open_ledger(self._path) as database, database:
                database.executemany(_ADD, [(day, *who, *astuple(amount)) for who, amount in pending.items()])
        except BaseException:
            self._put_back(pending)
            raise

    def _put_back(self, pending: dict[Who, _Amount]) -> None:
        with self._lock:
            for who, amount in pending.items():
                newer = self._of(who)
                for name in _Amount.__slots__:
                    setattr(newer, name, getattr(newer, name) + getattr(amount, name))


@contextlib.contextmanager
def open_ledger(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger, made if there is none; raise InvalidConfig if the file cannot be one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=BUSY_SECONDS)
    except (OSError, sqlite3.Error) as error:
        raise InvalidConfig(f"the ledger {path} cannot be opened: {error}") from error
    with contextlib.closing(database):
        try:
            _prepare(database, path)
            database.execute("PRAGMA synchronous=NORMAL")
        except sqlite3.Error as error:
            raise InvalidConfig(f"{path} cannot be used as a ledger: {error}: name another file") from error
        yield database


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    (schema,) = database.execute("PRAGMA user_version").fetchone()
    if schema == SCHEMA:
        return
    if schema or database.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
        raise InvalidConfig(
            f"{path} is no ledger that this Hotshoe knows (schema {schema}): name another file"
        )
    database.execute("PRAGMA journal_mode=WAL")  # Kept in the file, so it is said once.
    with database:
        database.execute(_CREATE)
        database.execute(f"PRAGMA user_version={SCHEMA}")


def _who(call: Call) -> Who:
    resolved = call.resolved
    assert resolved is not None, "only calls that a version answers are in the books"
    return call.origin.tenant, resolved.adapter, resolved.version
