"""Registries in a folder, and ones behind a line that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.adapters import SUPPORT, make_base
from support.desk import Desk
from support.outage import FailingStore

from hotshoe.registry import BaseModel, Registry, open_registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.local import LocalStore
from hotshoe.registry.recollection import Recollection


@pytest.fixture
def base(tmp_path: Path) -> BaseModel:
    return make_base(tmp_path / "base")


@pytest.fixture
def desk(tmp_path: Path, base: BaseModel) -> Iterator[Desk]:
    """A registry in a folder, with a cache of its own."""
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        yield Desk(registry, base, tmp_path)


@pytest.fixture
def line(tmp_path: Path) -> FailingStore:
    """The store of `desk`, seen through a line that can fail."""
    return FailingStore(LocalStore(tmp_path / "registry"))


@pytest.fixture
def open_remote(line: FailingStore, tmp_path: Path) -> Iterator[Callable[[], Registry]]:
    """Opens a registry over `line`, as a new process on the same machine would."""
    opened: list[Registry] = []

    def open_one() -> Registry:
        knowledge = Knowledge(line, Recollection(tmp_path / "knowledge", line.url), fresh_seconds=0)
        opened.append(Registry(line, knowledge, Cache(tmp_path / "remote-cache")))
        return opened[-1]

    yield open_one
    for registry in opened:
        registry.close()


@pytest.fixture
def used(desk: Desk) -> Desk:
    """A registry with acme/support@v1 and v2, and prod moved from one to the other."""
    for seed in (1, 2):
        desk.publish(seed)
        desk.registry.promote(SUPPORT, "prod", seed)
    return desk
