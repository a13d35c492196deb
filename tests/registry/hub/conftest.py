"""A registry on the Hub that runs on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.adapters import make_base
from support.desk import Desk
from support.hub.server import HubServer

from hotshoe.registry import Registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.hub_store import HubStore
from hotshoe.registry.hub_url import HubPlace
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.recollection import Recollection

OpenDesk = Callable[..., Desk]


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as hub:
        yield hub


@pytest.fixture
def open_store(hub: HubServer) -> Callable[..., HubStore]:
    """Opens the registry of acme as a process with this token would; None sends none."""

    def open_one(token: str | None = hub.token, options: str = "poll_seconds=0") -> HubStore:
        place = HubPlace.parse(f"hub://acme,globex?endpoint={hub.url}&{options}")
        return HubStore(place, token=token)

    return open_one


@pytest.fixture
def open_desk(open_store: Callable[..., HubStore], tmp_path: Path) -> OpenDesk:
    """The same as a whole registry, with a cache of its own."""
    base = make_base(tmp_path / "base")
    opened: list[Registry] = []

    def open_one(token: str | None = HubServer.token, options: str = "poll_seconds=0") -> Desk:
        store, root = open_store(token, options), tmp_path / f"cache-{len(opened)}"
        knowledge = Knowledge(store, Recollection(root / "knowledge", store.url), fresh_seconds=0)
        opened.append(Registry(store, knowledge, Cache(root / "adapters")))
        return Desk(opened[-1], base, tmp_path)

    return open_one


@pytest.fixture
def desk(open_desk: OpenDesk) -> Desk:
    return open_desk()
