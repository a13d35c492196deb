"""The places that a registry can be kept in; every test of this folder runs in each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.adapters import make_base
from support.desk import Desk
from support.hub import real
from support.hub.server import HubServer

from hotshoe.registry import Registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.hub_store import HubStore
from hotshoe.registry.hub_url import HubPlace
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.local import LocalStore
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.store import Store

OpenStore = Callable[[], Store]
PLACES = ("local", "hub", *(["real hub"] if real.wanted() else []))


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """How to open a store on the place that this run of the suite is about."""
    if request.param == "local":
        yield lambda: LocalStore(tmp_path / "registry")
    elif request.param == "hub":
        with HubServer() as hub:
            at = HubPlace.parse(f"hub://acme,globex?endpoint={hub.url}&poll_seconds=0")
            yield lambda: HubStore(at, token=hub.token)
    else:
        renamed = real.RenamedHub(os.environ[real.VARIABLE])
        at = HubPlace(("acme", "globex"), poll_seconds=0)
        yield lambda: HubStore(at, hub=renamed)
        renamed.delete_all(at.orgs)


@pytest.fixture
def open_store(place: OpenStore) -> Iterator[OpenStore]:
    """Opens one more store on the same place, as another process would."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(place())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def open_desk(open_store: OpenStore, tmp_path: Path) -> Iterator[Callable[[], Desk]]:
    """Opens one more registry on the same place, with a cache of its own."""
    base = make_base(tmp_path / "base")
    registries: list[Registry] = []

    def open_one() -> Desk:
        store, root = open_store(), tmp_path / f"cache-{len(registries)}"
        knowledge = Knowledge(store, Recollection(root / "knowledge", store.url), fresh_seconds=0)
        registries.append(Registry(store, knowledge, Cache(root / "adapters")))
        return Desk(registries[-1], base, tmp_path)

    yield open_one
    for registry in registries:
        registry.close()


@pytest.fixture
def desk(open_desk: Callable[[], Desk]) -> Desk:
    return open_desk()


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()
