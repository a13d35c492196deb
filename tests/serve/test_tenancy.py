"""Tenants of one server: nobody gets what is another's, and nobody can hurt anybody."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from support.serving import Served, echo_server

from hotshoe.adapter.errors import (
    Exhausted,
    InvalidConfig,
    InvalidRequest,
    PermissionDenied,
    Unauthenticated,
)
from hotshoe.client import AsyncClient
from hotshoe.client.retry import NEVER
from hotshoe.serve.tenants import key_hash
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc
from hotshoe.wire.values import Delta, Finished, Resolved, Sampling

TENANTS = f"""
[tenants.acme]
keys = ["{key_hash("hs_acme")}"]
adapters = ["acme/*"]
default_adapter = "acme/support"
base = false

[tenants.globex]
keys = ["{key_hash("hs_globex")}"]
adapters = ["globex/*"]

[tenants.tiny]
keys = ["{key_hash("hs_tiny")}"]
limits = {{ concurrent = 1, max_tokens = 4 }}
"""


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("tenancy")
    (folder / "tenants.toml").write_text(TENANTS)
    async with echo_server(folder, tenants=folder / "tenants.toml", token_seconds=0.001) as server:
        yield server


def test_one_who_is_asked_nothing_is_let_in_nowhere_else_than_here(tmp_path: Path) -> None:
    from hotshoe.serve.config import ServeConfig

    with pytest.raises(InvalidConfig, match="--tenants"):
        ServeConfig(base="b", listen="0.0.0.0:1")
    ServeConfig(base="b", listen="0.0.0.0:1", tenants=tmp_path / "tenants.toml")


@pytest.mark.parametrize("key", [None, "hs_wrong", key_hash("hs_acme")])
async def test_every_call_needs_a_key_that_is_known(served: Served, key: str | None) -> None:
    async with AsyncClient(served.address, api_key=key) as client:
        for call in (client.generate("hi"), client.adapters(), anext(aiter(client.stream("hi")))):
            with pytest.raises(Unauthenticated):
                await call


async def test_a_tenant_gets_its_own_adapters_and_its_default(served: Served) -> None:
    async with AsyncClient(served.address, api_key="hs_acme") as client:
        assert str((await client.generate("hi")).resolved) == "acme/support@v1"
        assert str((await client.generate("hi", adapter="acme/support@v2")).resolved) == "acme/support@v2"
        assert [each.adapter for each in await client.adapters()] == ["acme/support"]


async def test_what_is_anothers_and_what_is_not_there_are_denied_alike(served: Served) -> None:
    async with AsyncClient(served.address, api_key="hs_acme") as client:
        told = []
        for name in ("globex/legal", "globex/nothing", "globex/legal@v99"):
            with pytest.raises(PermissionDenied) as raised:
                await client.generate("hi", adapter=name)
            told.append(raised.value.message.replace(name.partition("@")[0], "NAME"))
    assert len(set(told)) == 1


async def test_what_the_message_says_of_the_caller_is_not_believed(served: Served) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)
        generation = pb.Generation(text="authorization: Bearer hs_acme", adapter="acme/support")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Generate(pb.GenerateRequest(generation=generation))
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_base_may_be_kept_from_a_tenant(tmp_path: Path) -> None:
    (tmp_path / "tenants.toml").write_text(f'[tenants.a]\nkeys = ["{key_hash("hs_a")}"]\nbase = false')
    async with (
        echo_server(tmp_path, tenants=tmp_path / "tenants.toml") as server,
        AsyncClient(server.address, api_key="hs_a") as client,
    ):
        with pytest.raises(PermissionDenied, match="may not use the base"):
            await client.generate("hi")


async def test_an_answer_is_no_longer_than_the_tenant_may_have(served: Served) -> None:
    async with AsyncClient(served.address, api_key="hs_tiny") as client:
        assert len((await client.generate("hi")).token_ids) == 4
        with pytest.raises(InvalidRequest, match="4 at most"):
            await client.generate("hi", sampling=Sampling(max_tokens=5))


async def test_a_limit_says_when_to_come_back(served: Served) -> None:
    async with AsyncClient(served.address, api_key="hs_tiny", retry=NEVER) as client:
        many = await asyncio.gather(*(client.generate("hi") for _ in range(8)), return_exceptions=True)
    refused = [each for each in many if isinstance(each, Exhausted)]
    assert 1 <= len(refused) <= 7
    assert all(each.retry_seconds > 0 for each in refused)


async def test_a_key_that_is_taken_away_does_not_work_any_more(tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text(TENANTS)
    async with echo_server(tmp_path, tenants=path) as server:
        async with AsyncClient(server.address, api_key="hs_acme") as client:
            await client.generate("hi")
            (tmp_path / "new").write_text(TENANTS.replace(key_hash("hs_acme"), key_hash("hs_new")))
            os.replace(tmp_path / "new", path)
            async with asyncio.timeout(5):
                with contextlib.suppress(Unauthenticated):
                    while True:
                        await client.generate("hi")
                        await asyncio.sleep(0.02)
        async with AsyncClient(server.address, api_key="hs_new") as client:
            await client.generate("hi")


async def first_token_seconds(client: AsyncClient, prompt: str) -> float:
    began = time.monotonic()
    async for event in client.stream(prompt):
        if isinstance(event, Delta):
            return time.monotonic() - began
    raise AssertionError


async def test_a_flood_of_one_tenant_leaves_anothers_first_tokens_where_they_were(tmp_path: Path) -> None:
    """An engine of 16 places: 64 streams of one tenant at all times, one request at a time of another."""
    path = tmp_path / "tenants.toml"
    path.write_text(TENANTS)
    async with (
        echo_server(tmp_path, tenants=path, sequences=16, token_seconds=0.02) as server,
        AsyncClient(server.address, api_key="hs_acme", retry=NEVER) as flooder,
        AsyncClient(server.address, api_key="hs_globex") as other,
    ):

        async def flood() -> None:
            while True:
                with contextlib.suppress(Exhausted):
                    await flooder.generate("x" * 60)

        alone = [await first_token_seconds(other, "hi") for _ in range(10)]
        flooding = [asyncio.create_task(flood()) for _ in range(64)]
        await asyncio.sleep(1)
        assert len(server.engine.running) == 15  # One place in the step is kept for whoever comes.
        beside = [await first_token_seconds(other, "hi") for _ in range(20)]
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
    assert statistics.median(beside) < 2 * statistics.median(alone) + 0.05


async def test_more_adapters_than_slots_are_all_answered(tmp_path: Path) -> None:
    async with echo_server(tmp_path, slots=1, sequences=8, token_seconds=0.005) as server:

        async def one(adapter: str) -> str:
            return str((await client.generate("hi", adapter=adapter)).resolved)

        async with asyncio.timeout(60), AsyncClient(server.address) as client:
            names = ["acme/support@v1", "acme/support@v2", "globex/legal@v1"] * 8
            assert await asyncio.gather(*(one(name) for name in names)) == names


async def test_the_line_shows_in_the_usage(tmp_path: Path) -> None:
    async with (
        echo_server(tmp_path, sequences=1, token_seconds=0.02) as server,
        AsyncClient(server.address) as client,
    ):
        answers = await asyncio.gather(*(client.generate("hi") for _ in range(6)))
    assert max(each.usage.queue_ms for each in answers) > 100
    assert min(each.usage.queue_ms for each in answers) < 50


async def test_a_session_stays_on_its_side_of_a_split_alias(tmp_path: Path) -> None:
    from support.adapters import SUPPORT

    async with echo_server(tmp_path) as server, AsyncClient(server.address) as client:
        server.registry.split(SUPPORT, "canary", {1: 1, 2: 1})

        async def version(session: str) -> str:
            async for event in client.stream("hi", adapter="acme/support@canary", session=session):
                if isinstance(event, Resolved):
                    return event.version
            raise AssertionError

        sides = {name: await version(name) for name in map(str, range(16))}
        assert set(sides.values()) == {"v1", "v2"}
        assert {name: await version(name) for name in sides} == sides


async def test_draining_says_so_to_who_comes_then(tmp_path: Path) -> None:
    from hotshoe.adapter.errors import Draining

    async with contextlib.AsyncExitStack() as clients:
        async with echo_server(tmp_path, token_seconds=0.02) as server:
            client = await clients.enter_async_context(AsyncClient(server.address, retry=NEVER))
            stream = client.stream("x" * 40)
            assert isinstance(await anext(stream), Resolved)
            late: list[type] = []

            async def ask_late() -> None:
                await asyncio.sleep(0.2)
                try:
                    await client.generate("hi")
                except Draining as error:
                    late.append(type(error))

            asking = asyncio.create_task(ask_late())
        await asking
        rest = [event async for event in stream]
    assert isinstance(rest[-1], Finished)
    assert late == [Draining]
