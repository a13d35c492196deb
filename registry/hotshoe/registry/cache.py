"""Versions on this machine: verified before anybody sees them, one download whoever asks, by content.

versions/   a folder by manifest digest; its time is when it was last wanted
leases/     who holds what: one locked file a holder, in a folder by digest
locks/      one at a time brings or takes away a version
drafts/     folders that grow or go
quarantine/ what was not what its manifest says
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from hotshoe.adapter.errors import Tampered
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.version import Version
from hotshoe.registry.disk import using_disk
from hotshoe.registry.locks import file_lock
from hotshoe.registry.verification import Fingerprint, check_folder, fingerprint_of

if TYPE_CHECKING:
    from filelock import FileLock

DEFAULT_MAX_BYTES = 20 << 30

GRACE_SECONDS = 600.0
"""What a dead holder leased is kept this long, so that it is still there when it starts again."""

SLACK = 0.01
"""Of the limit: so much may each process bring before it looks whether something must go. Looking takes
longer the more versions are here."""

_POLL_SECONDS = 0.005
_STALE_SECONDS = 3600

log = logging.getLogger(__name__)


class Cache:
    """Folders under `root`, shared by any number of processes.

    max_bytes: what nobody leases goes, longest unused first, when there is more than this (see SLACK).
    """

    def __init__(
        self, root: Path, *, max_bytes: int = DEFAULT_MAX_BYTES, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._grace_seconds = grace_seconds
        with self._on_disk(f"no cache can be kept in {root}"):
            for name in ("versions", "leases", "locks", "drafts", "quarantine"):
                (root / name).mkdir(parents=True, exist_ok=True)
        self._verified: dict[Path, Fingerprint] = {}
        self._sizes: dict[str, int] = {}
        self._held: dict[str, tuple[FileLock, int]] = {}
        self._holding = threading.Lock()
        self._turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
        # Bytes brought since all that is here was found to be within the limit.
        self._unlooked = math.inf

    def hold(self, version: Version, fill: Callable[[Path], Manifest]) -> Path:
        """The version's folder, which stays until as many `release` as `hold`, or `close`.

        `fill` puts the files into an empty folder if they are not here yet. Every byte was hashed
        against the manifest by this process. Raises Tampered, with the files put into quarantine, if
        one is not what the manifest says, RegistryUnavailable where the disk does not take it.
        """
        with self._on_disk(f"{version} cannot be kept in the cache {self._root}"):
            folder, brought = self._held_folder(version, fill)
        self._unlooked += brought
        if brought and self._unlooked > SLACK * self._max_bytes:
            try:
                self.evict()
            except OSError:
                # The version is here all the same, and the next one that comes tries again.
                log.warning("the cache %s cannot be cleared of what is old", self._root, exc_info=True)
        return folder

    def release(self, version: Version) -> None:
        """Give one hold back; more than there were is no error."""
        with self._holding:
            lock, count = self._held.pop(version.manifest_sha256, (None, 0))
            if lock is not None and count > 1:
                self._held[version.manifest_sha256] = (lock, count - 1)
            elif lock is not None:
                _drop(lock)

    def manifest(self, version: Version) -> Manifest | None:
        """The manifest of a version that is here, or None."""
        try:
            data = (self._version(version.manifest_sha256) / MANIFEST_PATH).read_bytes()
            manifest = Manifest.parse(data)
        except (OSError, Tampered):
            return None
        return manifest if manifest.sha256 == version.manifest_sha256 else None

    def evict(self) -> int:
        """Delete what is over the limit and not leased, quarantine first, then longest unused first; return
        the bytes freed."""
        with file_lock(self._root / "evict.lock"):
            self._sweep_drafts()
            # Measured once each: this is called again and again, however many are here.
            here = os.listdir(self._root / "versions")
            sizes = {digest: self._sizes.get(digest) or _size(self._version(digest)) for digest in here}
            self._sizes = sizes.copy()
            away = {folder: _size(folder) for folder in (self._root / "quarantine").iterdir()}
            over = sum(sizes.values()) + sum(away.values()) - self._max_bytes
            freed = self._free(over, sizes, away) if over > 0 else 0
            # What is held may be let go at any time; until then every version that comes looks again.
            self._unlooked = 0 if freed >= over else math.inf
            return freed

    def close(self) -> None:
        """Release everything that this cache holds."""
        with self._holding:
            while self._held:
                _, (lock, _) = self._held.popitem()
                _drop(lock)

    def _free(self, wanted: int, sizes: Mapping[str, int], away: Mapping[Path, int]) -> int:
        """Delete until `wanted` bytes are free, as `evict` says; how many are.

        sizes: of the versions, by digest. away: of what is in quarantine.
        """
        freed = 0
        for folder in sorted(away, key=_last_wanted):
            if freed >= wanted:
                break
            shutil.rmtree(folder, ignore_errors=True)
            freed += away[folder]
        for folder in sorted(map(self._version, sizes), key=_last_wanted):
            if freed >= wanted:
                break
            freed += sizes[folder.name] if self._take_away(folder) else 0
        return freed

    def _held_folder(self, version: Version, fill: Callable[[Path], Manifest]) -> tuple[Path, int]:
        """See `hold`; and how many bytes were brought for it now."""
        # The lease comes first: what is leased is not evicted, so what is found there stays there.
        self._lease(version)
        try:
            with self._turn(version.manifest_sha256):
                folder, brought = self._find(version), 0
                if folder is None:
                    folder = self._bring(version, fill)
                    brought = self._sizes[version.manifest_sha256] = _size(folder)
        except BaseException:
            self.release(version)
            raise
        return folder, brought

    def _find(self, version: Version) -> Path | None:
        folder = self._version(version.manifest_sha256)
        if folder.is_dir():
            # What rotted here is fetched again; only what the store hands out is the store's fault.
            with contextlib.suppress(Tampered):
                self._verify(version, folder)
                os.utime(folder)
                return folder
        return None

    def _bring(self, version: Version, fill: Callable[[Path], Manifest]) -> Path:
        folder = self._version(version.manifest_sha256)
        draft = self._root / "drafts" / secrets.token_hex(8)
        draft.mkdir()
        try:
            manifest = fill(draft)
            (draft / MANIFEST_PATH).parent.mkdir(exist_ok=True)
            (draft / MANIFEST_PATH).write_bytes(manifest.canonical())
            self._verify(version, draft)
            draft.rename(folder)
            self._verified[folder] = self._verified.pop(draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return folder

    def _verify(self, version: Version, folder: Path) -> None:
        """Raise Tampered, and put the folder away, unless it holds what `version` is made of."""
        fingerprint = fingerprint_of(folder)
        if self._verified.get(folder) == fingerprint:
            return
        try:
            check_folder(version, folder)
        except Tampered:
            self._quarantine(folder, version.manifest_sha256)
            raise
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o444)
        self._verified[folder] = fingerprint

    def _quarantine(self, folder: Path, digest: str) -> None:
        """Put a folder away for whoever looks into it: the last one of each digest, so that it is bounded."""
        away = self._root / "quarantine" / digest
        shutil.rmtree(away, ignore_errors=True)
        folder.rename(away)

    def _lease(self, version: Version) -> None:
        with self._holding:
            lock, count = self._held.get(version.manifest_sha256, (None, 0))
            if lock is None:
                folder = self._leases(version.manifest_sha256)
                folder.mkdir(exist_ok=True)
                lock = file_lock(folder / secrets.token_hex(8), thread_local=False)
                lock.acquire()
            self._held[version.manifest_sha256] = (lock, count + 1)

    def _take_away(self, folder: Path) -> bool:
        """Delete one version, unless somebody holds it or is bringing it."""
        try:
            with self._turn(folder.name, blocking=False):
                if any(self._protects(path) for path in self._leases(folder.name).glob("*")):
                    return False
                away = self._root / "drafts" / secrets.token_hex(8)
                folder.rename(away)
        except (TimeoutError, FileNotFoundError):
            return False
        shutil.rmtree(away, ignore_errors=True)
        return True

    def _protects(self, lease: Path) -> bool:
        """Does this lease still count? A dead holder's does for the time of grace, from when it is found."""
        try:
            with file_lock(lease, blocking=False):
                if lease.suffix != ".dead":
                    lease.rename(lease.with_suffix(".dead"))
                    os.utime(lease.with_suffix(".dead"))
                elif time.time() - lease.stat().st_mtime > self._grace_seconds:
                    lease.unlink()
                    return False
        except TimeoutError:
            return True
        except FileNotFoundError:
            return False
        return self._grace_seconds > 0

    @staticmethod
    def _on_disk(failed: str) -> AbstractContextManager[None]:
        return using_disk(
            failed,
            "see that it has room and that this user may write there, or name another by HOTSHOE_CACHE",
        )

    def _sweep_drafts(self) -> None:
        for draft in (self._root / "drafts").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if time.time() - draft.stat().st_mtime > _STALE_SECONDS:
                    shutil.rmtree(draft, ignore_errors=True)

    @contextlib.contextmanager
    def _turn(self, digest: str, *, blocking: bool = True) -> Iterator[None]:
        """Be the only one who brings or takes away a version; TimeoutError at once if not `blocking`."""
        with self._holding:
            mine = self._turns.setdefault(digest, threading.Lock())
        # Threads wait here, so that only one of them polls: a file's lock cannot be waited for.
        if not mine.acquire(blocking=blocking):
            raise TimeoutError(f"{digest} is being brought")
        try:
            with file_lock(self._root / "locks" / digest, poll_interval=_POLL_SECONDS, blocking=blocking):
                yield
        finally:
            mine.release()

    def _version(self, digest: str) -> Path:
        return self._root / "versions" / digest

    def _leases(self, digest: str) -> Path:
        return self._root / "leases" / digest


def _drop(lock: FileLock) -> None:
    # Deleted while still locked: whoever sees the file sees it held, or does not see it.
    with contextlib.suppress(OSError):
        os.unlink(lock.lock_file)
    lock.release(force=True)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _last_wanted(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
