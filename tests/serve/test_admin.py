"""The Admin service, as operators see it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from support.adapters import SUPPORT, empty_files, ref
from support.lora import tensors
from support.serving import Served, echo_server

from hotshoe.adapter.errors import (
    AdapterNotFound,
    Draining,
    InvalidReference,
    PermissionDenied,
    Refused,
    Unauthenticated,
)
from hotshoe.client import AdminClient, AsyncAdminClient, AsyncClient
from hotshoe.client.health import is_ready
from hotshoe.client.retry import NEVER
from hotshoe.serve.tenants import key_hash
from hotshoe.wire.admin import Happening, State, What
from hotshoe.wire.values import Sampling

Result = TypeVar("Result")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with echo_server(tmp_path, slots=2) as server:
        yield server


@pytest.fixture
def admin(served: Served) -> Iterator[AdminClient]:
    with AdminClient(served.address) as client:
        yield client


def own_address() -> str | None:
    """An IPv4 address of this machine that is not loopback."""
    found = (each for addresses in psutil.net_if_addrs().values() for each in addresses)
    mine = (each.address for each in found if each.family is socket.AddressFamily.AF_INET)
    return next((address for address in mine if not address.startswith("127.")), None)


async def call(method: Callable[..., Result], *arguments: object) -> Result:
    """The blocking client in a thread: the server shares our event loop."""
    return await asyncio.to_thread(method, *arguments)


def warm(admin: AdminClient, adapter: str) -> list[tuple[State, str]]:
    return [(each.state, each.version) for each in admin.warm(adapter)]


async def test_status_tells_what_the_server_is_and_who_used_it(served: Served, admin: AdminClient) -> None:
    async with AsyncClient(served.address) as client:
        await client.generate("hello", adapter="acme/support", sampling=Sampling(max_tokens=3))
        await client.generate("hello", sampling=Sampling(max_tokens=2))
        with pytest.raises(AdapterNotFound):
            await client.generate("hello", adapter="acme/nobody")
    status = await call(admin.status)
    assert (status.base.repo, status.serving, status.draining) == ("tiny", True, False)
    assert (status.running, status.waiting) == (0, 0)
    assert (status.adapters.loaded, status.adapters.capacity, status.adapters.slots) == (1, 2, 2)
    assert status.server_version
    assert status.alias_age_seconds < 5
    (everybody,) = status.tenants
    assert (everybody.requests, everybody.failed, everybody.output_tokens) == (3, 1, 5)
    base, support = status.used_adapters
    assert (base.name, base.requests, support.name, support.prompt_tokens) == ("", 1, "acme/support", 5)
    assert support.first_token_ms > 0


async def test_status_tells_of_an_alias_that_cannot_move(
    served: Served, admin: AdminClient, tmp_path: Path
) -> None:
    async with AsyncClient(served.address) as client:
        await client.generate("hi", adapter="acme/support@prod")
        empty_files(served.registry, tmp_path / "registry", ref("acme/support@v2"))
        served.registry.promote(SUPPORT, "prod", 2)
        async with asyncio.timeout(10):
            while not (status := await call(admin.status)).stuck:
                await asyncio.sleep(0.05)
        assert (await client.generate("hi", adapter="acme/support@prod")).resolved.version == "v1"
    (stuck,) = status.stuck
    assert (stuck.alias, stuck.reason) == ("acme/support@prod", "TAMPERED")
    failed = next(each for each in await call(admin.residency) if each.version == "v2")
    assert (failed.state, failed.error_reason) == (State.FAILED, "TAMPERED")


async def test_an_adapter_is_warmed_state_by_state(served: Served, admin: AdminClient) -> None:
    states = await call(warm, admin, "acme/support@v2")
    assert states == [(State.FETCHING, "v2"), (State.LOADING, "v2"), (State.LOADED, "v2")]
    (residency,) = await call(admin.residency)
    assert (residency.adapter, residency.version, residency.state) == ("acme/support", "v2", State.LOADED)
    weights = tensors().values()
    assert residency.bytes == sum(each.size for each in weights) * 4
    assert (await call(admin.status)).adapters.bytes == residency.bytes
    async with AsyncClient(served.address) as client:
        answer = await client.generate("hi", adapter="acme/support@v2")
    assert answer.usage.load_ms == 0


async def test_what_is_pinned_stays_and_what_is_unpinned_or_evicted_goes(
    served: Served, admin: AdminClient
) -> None:
    assert await call(admin.pin, "acme/support@v1") == "v1"
    async with AsyncClient(served.address) as client:
        for name in ("acme/support@v2", "globex/legal", "acme/support@v2"):
            await client.generate("hi", adapter=name)
    pinned = next(each for each in await call(admin.residency) if each.pinned)
    assert (pinned.version, pinned.state) == ("v1", State.LOADED)
    with pytest.raises(Refused, match="pinned"):
        await call(admin.evict, "acme/support@v1")
    assert await call(admin.unpin, "acme/support@v1") == "v1"
    assert await call(admin.evict, "acme/support@v1") == "v1"
    states = {(each.adapter, each.version): each.state for each in await call(admin.residency)}
    assert states["acme/support", "v1"] is State.ON_DISK


async def test_what_is_asked_wrongly_is_refused(admin: AdminClient) -> None:
    with pytest.raises(AdapterNotFound):
        await call(warm, admin, "acme/nobody")
    with pytest.raises(InvalidReference):
        await call(admin.pin, "nobody")
    with pytest.raises(AdapterNotFound):
        await call(admin.evict, "acme/nobody")


async def test_a_watcher_is_told_what_happens(served: Served, admin: AdminClient) -> None:
    told: list[Happening] = []

    def watch() -> None:
        for happening in admin.watch():
            told.append(happening)
            if happening.what is What.MOVED:
                return

    watching = asyncio.create_task(asyncio.to_thread(watch))
    async with AsyncClient(served.address) as client, asyncio.timeout(10):
        while not told:
            await call(warm, admin, "acme/support@prod")
            await client.generate("hi", adapter="acme/support@prod")
            with contextlib.suppress(Refused):
                await call(admin.evict, "acme/support@prod")
        served.registry.promote(SUPPORT, "prod", 2)
        await watching
    moved = told[-1]
    assert {What.LOADED, What.EVICTED} <= {each.what for each in told}
    assert (moved.adapter, moved.alias, moved.version, moved.message) == (
        "acme/support",
        "prod",
        "v2",
        "was v1",
    )


async def test_a_drained_server_finishes_what_it_has_refuses_what_comes_and_says_so(tmp_path: Path) -> None:
    async with (
        echo_server(tmp_path, token_seconds=0.05) as served,
        AsyncClient(served.address, retry=NEVER) as client,
    ):
        stream = client.stream("hello hello hello")
        await anext(stream)
        with AdminClient(served.address) as admin:
            assert await call(admin.drain, 0.1) == 1
            with pytest.raises(Draining):
                await client.generate("hi")
            assert not await call(is_ready, served.address)
            status = await call(admin.status)
            assert (status.serving, status.draining, status.running) == (False, True, 1)
            text = "".join([getattr(event, "text", "") async for event in stream])
            assert text == "base: hello hello hello"
            assert await call(admin.drain) == 0


async def test_a_drained_server_is_taken_into_service_again(tmp_path: Path) -> None:
    async with (
        echo_server(tmp_path) as served,
        AsyncClient(served.address, retry=NEVER) as client,
        AsyncAdminClient(served.address) as admin,
    ):
        assert await admin.drain() == 0
        with pytest.raises(Draining):
            await client.generate("hi")
        await admin.resume()
        assert await call(is_ready, served.address)
        assert (await client.generate("hi")).text == "base: hi"
        await admin.resume()  # Nothing to undo, nothing to complain of.
        assert (await admin.status()).serving


async def test_a_server_that_is_ending_is_not_taken_into_service_again(tmp_path: Path) -> None:
    async with (
        echo_server(tmp_path, token_seconds=0.05) as served,
        AsyncClient(served.address, retry=NEVER) as client,
        AsyncAdminClient(served.address) as admin,
    ):
        stream = client.stream("hello hello hello")
        await anext(stream)
        served.admission.close(for_good=True)
        with pytest.raises(Refused, match="ending"):
            await admin.resume()
        with pytest.raises(Draining):
            await client.generate("hi")
        await stream.aclose()


async def test_the_asynchronous_client_does_all_that_the_blocking_one_does(served: Served) -> None:
    async with AsyncAdminClient(served.address) as admin:
        states = [(each.state, each.version) async for each in admin.warm("acme/support@v2")]
        assert states == [(State.FETCHING, "v2"), (State.LOADING, "v2"), (State.LOADED, "v2")]
        assert await admin.pin("acme/support@v2") == "v2"
        assert [each.pinned for each in await admin.residency()] == [True]
        assert await admin.unpin("acme/support@v2") == "v2"
        happenings = admin.watch()
        told = asyncio.ensure_future(anext(happenings))
        async with asyncio.timeout(10):
            while not told.done():
                await admin.evict("acme/support@v2")
                async for _ in admin.warm("acme/support@v2"):
                    pass
        assert told.result().what in (What.EVICTED, What.LOADED)
        await happenings.aclose()
        with pytest.raises(AdapterNotFound):
            await admin.evict("acme/nobody")
        with pytest.raises(AdapterNotFound):
            await anext(admin.warm("acme/nobody"))
    public = {name for name in dir(AdminClient) if not name.startswith("_")}
    assert public == {name for name in dir(AsyncAdminClient) if not name.startswith("_")}


# Who may


def tenants_file(folder: Path) -> Path:
    """Two tenants, each with its own name as its key."""
    path = folder / "tenants.toml"
    for name, admin in (("operator", "true"), ("acme", "false")):
        digest = hashlib.sha256(name.encode()).hexdigest()
        with path.open("a") as file:
            file.write(f"[tenants.{name}]\nkeys = ['sha256:{digest}']\nadmin = {admin}\n")
    return path


async def test_with_tenants_only_those_who_may_administer_do(tmp_path: Path) -> None:
    async with echo_server(tmp_path, tenants=tenants_file(tmp_path)) as served:
        with AdminClient(served.address, api_key="operator") as admin:
            assert (await call(admin.status)).serving
        with AdminClient(served.address, api_key="acme") as admin:
            for method in (
                admin.status,
                admin.residency,
                admin.drain,
                admin.resume,
                lambda: next(admin.watch()),
            ):
                with pytest.raises(PermissionDenied, match="admin = true"):
                    await call(method)
            for each in (admin.pin, admin.unpin, admin.evict, lambda name: next(admin.warm(name))):
                with pytest.raises(PermissionDenied):
                    await call(each, "acme/support")
        for key in (None, "nobody"):
            with AdminClient(served.address, api_key=key) as admin, pytest.raises(Unauthenticated):
                await call(admin.status)
        with AdminClient(served.address, api_key="operator") as admin:
            assert not (await call(admin.status)).draining


async def test_an_open_server_takes_orders_only_from_its_own_machine(tmp_path: Path) -> None:
    own = own_address()
    if own is None:
        pytest.skip("this machine has no address but loopback")
    async with echo_server(tmp_path, listen="0.0.0.0:0", allow_open=True) as served:
        port = served.address.rpartition(":")[2]
        with AdminClient(f"127.0.0.1:{port}") as admin:
            assert (await call(admin.status)).serving
        with AdminClient(f"{own}:{port}") as admin, pytest.raises(PermissionDenied, match="own machine"):
            await call(admin.status)


async def test_a_tenants_file_that_makes_no_sense_is_told_of_until_it_is_mended(tmp_path: Path) -> None:
    tenants = tmp_path / "tenants.toml"
    sound = f'[tenants.ops]\nkeys = ["{key_hash("hs_ops")}"]\nadmin = true\n'
    tenants.write_text(sound)
    async with (
        echo_server(tmp_path, tenants=tenants) as served,
        AsyncAdminClient(served.address, api_key="hs_ops") as admin,
    ):

        async def told(wanted: bool) -> str:
            async with asyncio.timeout(10):
                while bool(fault := (await admin.status()).tenants_fault) != wanted:
                    await asyncio.sleep(0.05)
            return fault

        assert await told(False) == ""
        tenants.write_text(sound.replace("admin", "admim"))
        assert "did you mean admin?" in await told(True)
        assert faulty(served) == 1
        tenants.write_text(sound + "\n")
        await told(False)
        assert faulty(served) == 0


def faulty(served: Served) -> float | None:
    return served.telemetry.metrics.registry.get_sample_value("hotshoe_tenants_file_faulty")
