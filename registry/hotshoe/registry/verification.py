"""Is a folder what a version is made of? Every file listed, every listed file there, every byte hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hotshoe.adapter.errors import Tampered
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.version import Version

SIGNATURE_PATH = ".hotshoe/signature.json"
"""Who vouches for the manifest; it covers it, and so cannot be listed in it."""

UNLISTED = frozenset({MANIFEST_PATH, SIGNATURE_PATH, "README.md", ".gitattributes"})
"""What a version's tree holds beside the files that its manifest lists; never loaded by an engine."""

_TOLD = 5

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Of every file: path, size in bytes, time of change (ns), inode. The same while nobody touches a folder."""


def fingerprint_of(folder: Path) -> Fingerprint:
    """The state of a folder's files, at the price of a listing."""
    found = []
    for path in _files(folder):
        state = path.lstat()
        found.append((path.relative_to(folder).as_posix(), state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(sorted(found))


def check_tree(version: Version, manifest: Manifest, tree: Mapping[str, int]) -> None:
    """Raise Tampered unless a version may be fetched at all; judged by names and sizes, before any byte is.

    tree: the paths in the store with their sizes in bytes. They must be those that the manifest lists, and
    of those that a version is made of: whoever writes a manifest by hand gets no pickle in, and no disk full.
    """
    # Imported here: who only looks at names and numbers should not wait for all that inspects.
    from hotshoe.registry.inspect.folder import MAX_BYTES

    listed = {entry.path: entry.size for entry in manifest.files}
    odd = sorted(listed.keys() ^ (set(tree) - UNLISTED))
    if odd:
        raise Tampered(
            f"{version} has other files in the registry than its manifest lists, see {_few(odd)}: "
            "do not use it, and look who may write there"
        )
    if foreign := sorted(listed.keys() - MAX_BYTES.keys()):
        raise Tampered(
            f"{version} lists files that no version is made of, see {_few(foreign)}: do not use it"
        )
    if wrong := sorted(path for path, size in listed.items() if tree[path] != size or size > MAX_BYTES[path]):
        raise Tampered(
            f"{version} has files of another size than its manifest says, or larger than a version's may be, "
            f"see {_few(wrong)}: do not use it, and look who may write there"
        )


def check_folder(version: Version, folder: Path) -> None:
    """Raise Tampered unless the folder holds the version's manifest, and exactly the files it lists."""
    try:
        data = (folder / MANIFEST_PATH).read_bytes()
    except OSError as error:
        raise Tampered(f"{version} has lost its manifest: fetch it again") from error
    if hashlib.sha256(data).hexdigest() != version.manifest_sha256:
        raise Tampered(f"the manifest of {version} is not the one that was published")
    listed = {entry.path: entry for entry in Manifest.parse(data).files}
    found = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST_PATH}
    if found != set(listed):
        odd = _few(sorted(found ^ set(listed)))
        raise Tampered(f"{version} has other files than its manifest lists, see {odd}: do not use it")
    for name, entry in listed.items():
        path = folder / name
        if path.is_symlink() or path.stat().st_size != entry.size or _sha256(path) != entry.sha256:
            raise Tampered(
                f"{name} of {version} is not what was published: publish the version again from its source, "
                "and look who may write to the registry"
            )


def _few(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(name[:80] for name in names[:_TOLD]) + rest


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
