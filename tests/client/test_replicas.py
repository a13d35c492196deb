"""One client, several servers behind one name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from support.serving import Served, echo_server

from hotshoe.client import AdminClient, AsyncClient, Client
from hotshoe.client.retry import NEVER

CALLS = 8


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[tuple[Served, Served]]:
    async with echo_server(tmp_path / "one") as one, echo_server(tmp_path / "two") as two:
        yield one, two


def target(replicas: tuple[Served, Served]) -> str:
    return "ipv4:" + ",".join(each.address for each in replicas)


def answered(served: Served) -> float:
    labels = {"tenant": "", "adapter": "", "outcome": "OK"}
    return served.telemetry.metrics.registry.get_sample_value("hotshoe_requests_total", labels) or 0.0


async def test_calls_are_spread_over_all_replicas(replicas: tuple[Served, Served]) -> None:
    async with AsyncClient(target(replicas)) as client:
        for _ in range(CALLS):
            await client.generate("hi")
    assert sum(answered(each) for each in replicas) == CALLS
    assert all(answered(each) for each in replicas)


async def test_what_a_draining_replica_refuses_another_answers(replicas: tuple[Served, Served]) -> None:
    draining, serving = replicas

    def call() -> None:
        with AdminClient(draining.address) as admin:
            admin.drain(1)
        with Client(target(replicas)) as client:
            for _ in range(CALLS):
                assert client.generate("hi").text == "base: hi"

    await asyncio.to_thread(call)
    assert answered(serving) == CALLS


async def test_a_connection_that_grows_old_is_replaced_and_no_call_notices(tmp_path: Path) -> None:
    connections = set()
    prompt = "longer than the connection lasts"
    async with (
        echo_server(tmp_path, connection_seconds=1.0, token_seconds=0.05) as served,
        AsyncClient(served.address, retry=NEVER) as client,
    ):
        until = time.monotonic() + 3
        while time.monotonic() < until:
            answers = await asyncio.gather(*(client.generate(prompt) for _ in range(CALLS)))
            assert {each.text for each in answers} == {f"base: {prompt}"}
            connections.add(frozenset(ports_of_clients(served.address)))
    assert len(connections) > 1


def ports_of_clients(address: str) -> set[int]:
    """Where connections to the server come from now."""
    port = int(address.rpartition(":")[2])
    found = psutil.Process().net_connections("tcp")
    return {each.laddr.port for each in found if each.raddr and each.raddr.port == port}
