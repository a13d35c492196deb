"""Bytes on disk by their sha256: written whole or not at all, read-only, never changed."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from hotshoe.adapter.errors import Tampered
from hotshoe.registry.disk import using_disk
from hotshoe.registry.durable import sync
from hotshoe.registry.locks import file_lock
from hotshoe.registry.store import Files, Staged

ROOM = "see that it has room and that this user may write there, then try again"

_STALE_SECONDS = 3600
"""Staging younger than this is left alone, even where no living process seems to hold it."""


class Blobs:
    """`blobs/` under a root folder, beside `staging/`, where new bytes grow."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._staging = root / "staging"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._staging.mkdir(exist_ok=True)

    def empty(self) -> bool:
        """Is there no blob at all?"""
        return next(self._blobs.iterdir(), None) is None

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A private folder on the same disk; a lock beside it tells the sweeper that its owner lives."""
        folder = self._staging / secrets.token_hex(8)
        with contextlib.ExitStack() as held:
            # Of the beginning only: what the owner does in the block has its own reasons to fail.
            with using_disk(f"nothing can be published to {self._staging.parent}", ROOM):
                held.enter_context(file_lock(folder.with_suffix(".lock")))
                # Deleted while still locked: who sees the file sees it held.
                held.callback(folder.with_suffix(".lock").unlink, missing_ok=True)
                folder.mkdir(mode=0o700)
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            yield folder

    @contextlib.contextmanager
    def settled(self, files: Files) -> Iterator[dict[str, Staged]]:
        """Make files read-only and proof against a power cut; still nobody can reach them.

        Bytes are written down for it, and go again if the block did not `place` them.
        """
        with contextlib.ExitStack() as parts:
            yield {path: self._settle(content, parts) for path, content in sorted(files.items())}

    def _settle(self, content: Staged | bytes, parts: contextlib.ExitStack) -> Staged:
        if isinstance(content, bytes):
            path = self._staging / f"{secrets.token_hex(8)}.part"
            parts.callback(path.unlink, missing_ok=True)
            path.write_bytes(content)
            content = Staged(path, len(content), hashlib.sha256(content).hexdigest())
        content.path.chmod(0o444)
        sync(content.path)
        return content

    def place(self, settled: Iterable[Staged]) -> None:
        """Put settled bytes where they are found by their sha256."""
        for blob in settled:
            # Over a blob that is there already too: should that one have rotted, it is whole again.
            blob.path.replace(self.path(blob.sha256))
        sync(self._blobs)

    def read(self, sha256: str, limit: int) -> bytes:
        """The bytes of a small blob, checked; raise Tampered if they are not what they were."""
        with self.path(sha256).open("rb") as file:
            data = file.read(limit + 1)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Tampered(f"blob {sha256[:12]} in {self._blobs} does not hold the bytes it is named after")
        return data

    def is_whole(self, sha256: str, size: int) -> bool:
        """Is the blob there with this size in bytes, and every byte what it was?"""
        try:
            with self.path(sha256).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
                return found == sha256 and file.tell() == size
        except FileNotFoundError:
            return False

    def path(self, sha256: str) -> Path:
        return self._blobs / sha256

    def drop(self, sha256: str) -> int:
        """Delete a blob; return the bytes that this gave back."""
        path = self.path(sha256)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def sweep(self, wanted: Container[str]) -> int:
        """Delete blobs that are not wanted, and staging whose owner died; return the bytes given back."""
        freed = sum(self.drop(path.name) for path in self._blobs.iterdir() if path.name not in wanted)
        freed += sum(self._sweep_part(part) for part in self._staging.glob("*.part"))
        return freed + sum(self._sweep_staging(lock) for lock in self._staging.glob("*.lock"))

    @staticmethod
    def _sweep_part(part: Path) -> int:
        with contextlib.suppress(FileNotFoundError):
            state = part.stat()
            if time.time() - state.st_mtime >= _STALE_SECONDS:
                part.unlink()
                return state.st_size
        return 0

    def _sweep_staging(self, lock: Path) -> int:
        folder = lock.with_suffix("")
        with contextlib.suppress(TimeoutError, FileNotFoundError):
            if time.time() - lock.stat().st_mtime < _STALE_SECONDS:
                return 0
            with file_lock(lock, blocking=False):
                freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)
                return freed
        return 0
