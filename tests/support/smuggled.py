"""Versions that are in a registry although no publish of ours would have let them in."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from hotshoe.adapter.manifest import MANIFEST_PATH, Base, FileEntry, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry import Registry
from hotshoe.registry.publishing import Draft, add_version
from hotshoe.registry.store import Staged
from hotshoe.registry.values import Publication


def smuggle(
    registry: Registry,
    folder: Path,
    name: AdapterName,
    base: Base,
    targets: tuple[str, ...],
    *,
    training: Mapping[str, object] | None = None,
) -> Version:
    """Publish as somebody does who may write to the store and does not use our publish."""
    with registry.store.staging() as staging:
        files = {}
        for path in folder.iterdir():
            copy = Path(shutil.copyfile(path, staging / path.name))
            data = copy.read_bytes()
            files[path.name] = Staged(copy, len(data), hashlib.sha256(data).hexdigest())
        entries = tuple(FileEntry(path, each.size, each.sha256) for path, each in files.items())
        manifest = Manifest(str(name), base, 8, 16.0, targets, entries, training or {})
        draft = Draft(manifest, {**files, MANIFEST_PATH: manifest.canonical()})
        publication = Publication("mallory", "past inspection", datetime.now(UTC), manifest.sha256)
        return add_version(registry.store, name, draft, publication)
