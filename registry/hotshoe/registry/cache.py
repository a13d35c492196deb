"""Versions on this machine: verified before anybody sees them, one download whoever asks, by content."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from hotshoe.adapter.errors import Tampered
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.version import Version

Fingerprint = tuple[tuple[int, int, int], ...]


class Cache:
    """Folders by manifest digest under `root`, shared by any number of processes."""

    def __init__(self, root: Path) -> None:
        self._versions = root / "versions"
        self._drafts = root / "drafts"
        self._quarantine = root / "quarantine"
        self._locks = root / "locks"
        for folder in (self._versions, self._drafts, self._locks):
            folder.mkdir(parents=True, exist_ok=True)
        self._verified: dict[Path, Fingerprint] = {}

    def folder(self, version: Version, fill: Callable[[Path], Manifest]) -> Path:
        """The version's folder; `fill` is called to put the files into an empty one if it is not there.

        Every file was hashed against the manifest by this process. Raises Tampered, with the files in
        quarantine, if one is not what the manifest says.
        """
        folder = self._versions / version.manifest_sha256
        # Everybody who wants this content waits for the one who brings it.
        with FileLock(self._locks / version.manifest_sha256):
            if folder.is_dir():
                with contextlib.suppress(Tampered):
                    self._verify(version, folder)
                    return folder
            draft = self._drafts / secrets.token_hex(8)
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
        try:
            paths = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
            fingerprint = tuple(_fingerprint(path) for path in paths)
            if self._verified.get(folder) == fingerprint:
                return
            _check(version, folder, paths)
        except Tampered:
            self._quarantine.mkdir(exist_ok=True)
            folder.rename(self._quarantine / f"{version.manifest_sha256[:16]}-{secrets.token_hex(4)}")
            raise
        for path in paths:
            path.chmod(0o444)
        self._verified[folder] = fingerprint


def _check(version: Version, folder: Path, paths: list[Path]) -> None:
    try:
        data = (folder / MANIFEST_PATH).read_bytes()
    except FileNotFoundError as error:
        raise Tampered(f"{version} has lost its manifest: fetch it again") from error
    if hashlib.sha256(data).hexdigest() != version.manifest_sha256:
        raise Tampered(f"the manifest of {version} is not the one that was published")
    listed = {entry.path: entry for entry in Manifest.parse(data).files}
    found = {path.relative_to(folder).as_posix() for path in paths} - {MANIFEST_PATH}
    if found != set(listed):
        odd = sorted(found ^ set(listed))
        raise Tampered(
            f"{version} has files that its manifest does not list, or lacks some: {', '.join(odd)}"
        )
    for name, entry in listed.items():
        path = folder / name
        if path.is_symlink() or path.stat().st_size != entry.size or _sha256(path) != entry.sha256:
            raise Tampered(
                f"{name} of {version} is not what was published: publish the version again from its source, "
                "and look who may write to the registry"
            )


def _fingerprint(path: Path) -> tuple[int, int, int]:
    state = path.lstat()
    return state.st_size, state.st_mtime_ns, state.st_ino


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
