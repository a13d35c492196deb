"""Adapters and bases to publish: small, servable, and different for every seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.lora import BASE_CONFIG, tensors, write_adapter

from hotshoe.adapter.manifest import MANIFEST_PATH, Base, Manifest
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.registry import BaseModel, Registry

SUPPORT = AdapterName("acme", "support")
LEGAL = AdapterName("globex", "legal")


def make_base(folder: Path, name: str = "tiny") -> BaseModel:
    """A base that has a config and a digest, and no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(BASE_CONFIG))
    return BaseModel(folder, Base(name, "", hashlib.sha256(name.encode()).hexdigest()))


def make_adapter(folder: Path, seed: int) -> Path:
    """A PEFT folder as PEFT leaves it, without a manifest."""
    return write_adapter(folder, weights=tensors(seed=seed))


def leave_manifest(folder: Path, base: Base, **facts: Any) -> Path:
    """Put the manifest into the folder that a trainer would leave: files are for publish to fill in."""
    training: Mapping[str, Any] = facts.pop("training", {})
    manifest = Manifest("draft/draft", base, 4, 8.0, ("q_proj",), (), training=training, **facts)
    path = folder / MANIFEST_PATH
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(manifest.canonical())
    return folder


def ref(text: str) -> AdapterRef:
    return AdapterRef.parse(text)


def empty_files(registry: Registry, folder: Path, version: AdapterRef) -> None:
    """Tamper with a version in a registry's folder: its files are there and have no bytes."""
    for file in registry.manifest(registry.resolve(version)).files:
        for blob in folder.rglob(file.sha256):
            blob.chmod(0o644)
            blob.write_bytes(b"")
