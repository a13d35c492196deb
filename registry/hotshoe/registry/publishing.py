"""From a folder that somebody trained to the tree of a version: copied, hashed, inspected, described.

The bytes are copied once, into staging, and all that follows reads the copy, so a folder that changes
meanwhile cannot slip anything past the inspection.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import shutil
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hotshoe.adapter.errors import (
    AdapterNotFound,
    BaseMismatch,
    Conflict,
    InvalidRequest,
    RegistryUnavailable,
    Tampered,
    Unservable,
)
from hotshoe.adapter.manifest import MANIFEST_PATH, MAX_MANIFEST_BYTES, Base, FileEntry, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry.base import BaseModel
from hotshoe.registry.disk import using_disk
from hotshoe.registry.durable import sync
from hotshoe.registry.inspect import README_FILE, inspect, version_files
from hotshoe.registry.inspect.findings import Malformed, unservable
from hotshoe.registry.inspect.folder import open_regular, read_whole
from hotshoe.registry.promotion import ATTEMPTS, pause
from hotshoe.registry.store import Files, Refs, Staged, Store
from hotshoe.registry.tags import tagged
from hotshoe.registry.values import Publication
from hotshoe.registry.verification import SIGNATURE_PATH

if TYPE_CHECKING:
    from hotshoe.registry.signing import SigningKey

_CHUNK_BYTES = 1 << 20
_ROOM = "see that it can be read, and for room"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that lacks nothing but its number."""

    manifest: Manifest
    files: Files

    def signed(self, key: SigningKey) -> Draft:
        """The same with a signature beside the manifest."""
        signature = key.sign(self.manifest.canonical()).encode()
        return replace(self, files={**self.files, SIGNATURE_PATH: signature})


def draft_version(
    folder: Path, name: AdapterName, base: BaseModel | None, staging: Path, tags: Collection[str] = ()
) -> Draft:
    """Copy a PEFT folder into `staging` and describe it.

    A manifest that the trainer left in the folder gives base, training facts, metrics and parent; what
    can be read from the files themselves is read from them. Raises InvalidRequest for a folder that names
    no base and for a tag that is none, BaseMismatch where manifest and `base` differ, Unservable for what
    inspection finds.
    """
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is no folder: give the one that holds adapter_config.json")
    trained = _trained(folder)
    known = _base_of(folder, trained, base)
    # What PEFT writes into README.md says nothing; the same weights beside other words are the same version.
    wanted = [path for path in version_files(folder) if path != README_FILE]
    with using_disk(f"{folder} cannot be copied to be published", _ROOM):
        for path in wanted:
            _copy(folder / path, staging / path)
    # Hashing, the disk and inspection take their time, and none needs another.
    with ThreadPoolExecutor(2) as aside:
        hashing = aside.submit(lambda: {path: _staged(staging / path) for path in wanted})
        syncing = aside.submit(sync, *(staging / path for path in wanted))
        inspection = inspect(staging, base.config if base else None, origin=folder)
    with using_disk(f"{folder} cannot be copied to be published", _ROOM):
        syncing.result()
        staged = hashing.result()
    inspection.raise_for_errors()
    for finding in inspection.warnings:
        log.warning("%s: %s", name, finding)
    manifest = Manifest(
        adapter=str(name),
        base=known,
        rank=inspection.rank,
        alpha=inspection.alpha,
        targets=tuple(sorted(inspection.targets)),
        files=tuple(FileEntry(path, blob.size, blob.sha256) for path, blob in sorted(staged.items())),
        training=tagged(trained.training if trained else {}, tags),
        metrics=trained.metrics if trained else {},
        parent=trained.parent if trained else None,
    )
    return Draft(manifest, {**staged, MANIFEST_PATH: manifest.canonical()})


def add_version(store: Store, name: AdapterName, draft: Draft, publication: Publication) -> Version:
    """Give a draft the next number, whoever else does so too; content that is there already keeps its own."""
    for attempt in range(ATTEMPTS):
        try:
            refs = store.refs(name)
        except AdapterNotFound:
            refs = Refs(name, {}, {})
        if there := _same_content(store, refs, draft):
            return there
        number = refs.newest + 1
        try:
            commit = store.add_version(name, draft.files, publication, newest=refs.newest, number=number)
        except Conflict:
            pause(attempt)
        else:
            return Version(name, number, commit, publication.manifest_sha256)
    raise RegistryUnavailable(f"{name} is being published to by too many at once: try again")


def _same_content(store: Store, refs: Refs, draft: Draft) -> Version | None:
    """The version that is this draft already. To be signed, when it was not before, is a change."""
    told = store.publications(refs.adapter) if refs.versions else {}
    digest, signature = draft.manifest.sha256, draft.files.get(SIGNATURE_PATH)
    for number, commit in refs.versions.items():
        if commit not in told or told[commit].manifest_sha256 != digest:
            continue
        if signature is None or read_signature(store, refs.adapter, commit) == signature:
            return Version(refs.adapter, number, commit, digest)
    return None


def read_signature(store: Store, adapter: AdapterName, commit: str) -> bytes | None:
    """What `.hotshoe/signature.json` of a version holds; None where it is not signed."""
    if SIGNATURE_PATH not in store.tree(adapter, commit):
        return None
    return store.read(adapter, commit, SIGNATURE_PATH)


def _trained(folder: Path) -> Manifest | None:
    path = folder / MANIFEST_PATH
    if not os.path.lexists(path):
        return None
    try:
        return Manifest.parse(read_whole(path, MAX_MANIFEST_BYTES))
    except Malformed as broken:
        raise unservable((broken.finding,)) from broken
    except Tampered as error:
        raise Unservable(
            f"{path}, which a training run leaves, cannot be used: {error}; train again, or delete it and "
            "name the base with --base"
        ) from error


def _copy(origin: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Opened so that what was a file when it was looked at is no link to somebody's secret by now.
        with open_regular(origin) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK_BYTES)
    except Malformed as broken:
        raise unservable((broken.finding,)) from broken


def _base_of(folder: Path, trained: Manifest | None, base: BaseModel | None) -> Base:
    if trained is None and base is None:
        raise InvalidRequest(
            f"{folder} does not say which base it was trained for: name it with --base (folder or Hub repo)"
        )
    if trained is None or base is None:
        return base.base if base is not None else trained.base  # type: ignore[union-attr]
    if trained.base.digest != base.base.digest:
        raise BaseMismatch(
            f"{folder} was trained for {trained.base}, not for {base.base}: publish it without --base, "
            "or train again"
        )
    return trained.base


def _staged(path: Path) -> Staged:
    size = path.stat().st_size
    with path.open("rb") as file:
        # In one call, for which the thread gives up Python's lock; in many, it would wait for it each time.
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else contextlib.nullcontext(b"")
        with data as view:
            sha256 = hashlib.sha256(view).hexdigest()
    return Staged(path, size, sha256)
