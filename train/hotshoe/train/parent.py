"""The version that a run continues from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotshoe.adapter.errors import BaseMismatch, InvalidConfig, Unservable
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.registry.base import BaseModel
from hotshoe.registry.inspect import inspect
from hotshoe.train.config import TrainConfig


class Parents(Protocol):
    """Where a parent version comes from; `hotshoe.registry.Registry` is one."""

    def version(self, ref: AdapterRef) -> Version: ...
    def fetch(self, version: Version) -> Path: ...
    def manifest(self, version: Version) -> Manifest: ...


@dataclass(frozen=True, slots=True)
class Parent:
    """A version, its manifest, and its verified files."""

    version: Version
    manifest: Manifest
    folder: Path


def fetch_parents(config: TrainConfig, parents: Parents | None, base: BaseModel) -> tuple[Parent, ...]:
    """Every version that a run starts from: its parent, or what it merges."""
    refs = [config.parent] if config.parent else config.merge.sources
    return tuple(fetch_parent(AdapterRef.parse(ref), parents, base) for ref in refs)


def fetch_parent(ref: AdapterRef, parents: Parents | None, base: BaseModel) -> Parent:
    """Resolve and fetch a version.

    Raises BaseMismatch where it was trained on another base, and Unservable where its files are not what an
    adapter of this base can be: who published it may have inspected nothing, and PEFT builds what it is told.
    """
    if parents is None:
        raise InvalidConfig(f"parent {ref}: name the registry that holds it (--registry)")
    version = parents.version(ref)
    manifest = parents.manifest(version)
    if manifest.base.digest != base.base.digest:
        raise BaseMismatch(f"parent {version} was trained on {manifest.base}, this run's base is {base.base}")
    folder = parents.fetch(version)
    inspection = inspect(folder, base.config)
    try:
        inspection.raise_for_errors()
    except Unservable as error:
        raise Unservable(
            f"parent {version} cannot be trained on: {error.message}", details=error.details
        ) from None
    for finding in inspection.warnings:
        if finding.code == "COMPLEX_TARGETS":
            raise Unservable(f"parent {version} cannot be trained on: {finding}")
    return Parent(version, manifest, folder)


@contextmanager
def building(parent: Parent) -> Iterator[None]:
    """Turn what PEFT says inside the block, where it cannot build the parent's adapter, into Unservable."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, ImportError, re.error) as error:
        raise Unservable(
            f"parent {parent.version} cannot be trained on: PEFT builds no adapter of its config ({error})"
        ) from error
