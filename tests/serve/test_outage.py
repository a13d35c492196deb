"""What a server does while what it leans on fails: its registry, its disk, the clock on the wall."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.adapters import SUPPORT
from support.outage import FailingStore
from support.serving import open_shop

from hotshoe.adapter.errors import RegistryUnavailable
from hotshoe.client import AsyncAdminClient, AsyncClient
from hotshoe.client.retry import NEVER
from hotshoe.registry import Registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.recollection import Recollection
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.server import running


@dataclass(frozen=True)
class Distant:
    """A server whose registry is at the other end of a line. cache: the folder of its adapters' files."""

    client: AsyncClient
    admin: AsyncAdminClient
    line: FailingStore
    shop: Registry
    cache: Path


@pytest.fixture
async def distant(tmp_path: Path) -> AsyncIterator[Distant]:
    with open_shop(tmp_path) as shop:
        line = FailingStore(shop.registry.store)
        knowledge = Knowledge(line, Recollection(tmp_path / "knowledge", line.url), fresh_seconds=0.1)
        registry = Registry(line, knowledge, Cache(tmp_path / "distant"))
        engine = EchoEngine(shop.base.base, slots=4, max_rank=16)
        config = ServeConfig(base="echo", listen="127.0.0.1:0", slots=4, resident=4, drain_seconds=1)
        async with (
            running(config, engine, registry) as server,
            # No deadlines: the test that turns the clock would turn the client's too.
            AsyncClient(server.address, retry=NEVER) as client,
            AsyncAdminClient(server.address, timeout_seconds=None) as admin,
        ):
            yield Distant(client, admin, line, shop.registry, tmp_path / "distant")
        await engine.close()


async def version(client: AsyncClient, adapter: str) -> str:
    return (await client.generate("hi", adapter=adapter)).resolved.version


async def test_while_the_registry_is_down_what_is_loaded_answers_and_status_says_how_old_its_knowledge_is(
    distant: Distant,
) -> None:
    assert await version(distant.client, "acme/support") == "v1"
    distant.line.down = True
    distant.shop.promote(SUPPORT, "prod", 2)
    await asyncio.sleep(1)

    assert await version(distant.client, "acme/support") == "v1"
    with pytest.raises(RegistryUnavailable):
        await version(distant.client, "globex/legal")  # Never asked for before.
    status = await distant.admin.status()
    assert status.serving
    assert status.alias_age_seconds > 0.5

    distant.line.down = False
    async with asyncio.timeout(20):
        while await version(distant.client, "acme/support") != "v2":
            await asyncio.sleep(0.05)
    assert (await distant.admin.status()).alias_age_seconds < status.alias_age_seconds


async def test_a_slow_registry_delays_nobody_who_does_not_wait_for_it(
    distant: Distant, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await version(distant.client, "acme/support") == "v1"
    fetch = distant.line.fetch

    def slowly(*arguments: object) -> None:
        time.sleep(2)
        fetch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(distant.line, "fetch", slowly)
    waiting = asyncio.ensure_future(version(distant.client, "globex/legal"))
    began = time.monotonic()
    while not waiting.done() and time.monotonic() - began < 1:
        assert await version(distant.client, "acme/support") == "v1"
    assert not waiting.done()
    assert await waiting == "v1"


async def test_a_disk_without_room_refuses_what_is_new_and_what_is_loaded_answers(distant: Distant) -> None:
    assert await version(distant.client, "acme/support") == "v1"
    drafts = next(distant.cache.rglob("drafts"))
    aside = drafts.rename(drafts.with_name("aside"))
    drafts.touch()  # Nothing can be written into a file that is no folder, not even by root.

    with pytest.raises(RegistryUnavailable, match="globex/legal@v1"):
        await version(distant.client, "globex/legal")
    assert await version(distant.client, "acme/support") == "v1"

    drafts.unlink()
    aside.rename(drafts)
    assert await version(distant.client, "globex/legal") == "v1"  # Nothing is held against it.


@pytest.mark.parametrize("hours", [-30, 30])
async def test_a_clock_that_jumps_changes_nothing_for_requests_leases_and_limits(
    distant: Distant, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    assert await version(distant.client, "acme/support") == "v1"
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + hours * 3600)

    assert await version(distant.client, "acme/support") == "v1"
    assert await version(distant.client, "globex/legal") == "v1"
    distant.shop.promote(SUPPORT, "prod", 2)
    async with asyncio.timeout(20):
        while await version(distant.client, "acme/support") != "v2":
            await asyncio.sleep(0.05)
    status = await distant.admin.status()
    assert status.serving
    assert 0 <= status.alias_age_seconds < 20
