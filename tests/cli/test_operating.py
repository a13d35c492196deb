"""The operators' verbs, on a server that runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.serving import Served, echo_server
from typer.testing import CliRunner

from hotshoe.cli.main import app
from hotshoe.client import AsyncClient


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with echo_server(tmp_path, slots=2) as server:
        yield server


async def hotshoe(served: Served, *arguments: str) -> tuple[int, str]:
    """Run a verb against the server, in a thread as the server has the event loop."""
    environment = {"HOTSHOE_TARGET": served.address, "COLUMNS": "200", "NO_COLOR": "1"}
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments], env=environment)
    return result.exit_code, result.output


async def test_status_is_told_to_people_and_to_machines(served: Served) -> None:
    async with AsyncClient(served.address) as client:
        await client.generate("hello", adapter="acme/support")
    code, out = await hotshoe(served, "status")
    assert code == 0
    assert "serving" in out
    assert "1 loaded, 0 in use" in out
    assert "acme/support" in out
    code, out = await hotshoe(served, "status", "--json")
    status = json.loads(out)
    assert (code, status["serving"], status["adapters"]["loaded"]) == (0, True, 1)
    assert status["used_adapters"][0]["name"] == "acme/support"


async def test_an_adapter_is_warmed_pinned_listed_unpinned_and_evicted(served: Served) -> None:
    assert await hotshoe(served, "warm", "acme/support@v2") == (
        0,
        "acme/support@v2: fetching\nacme/support@v2: loading\nacme/support@v2: loaded\n",
    )
    assert await hotshoe(served, "pin", "acme/support") == (0, "acme/support@v1: pinned\n")
    code, out = await hotshoe(served, "resident", "--json")
    assert code == 0
    assert [(each["version"], each["state"], each["pinned"]) for each in json.loads(out)] == [
        ("v1", "loaded", True),
        ("v2", "loaded", False),
    ]
    code, out = await hotshoe(served, "evict", "acme/support@v1")
    assert code == 1
    assert "unpin it" in out
    assert await hotshoe(served, "unpin", "acme/support@v1") == (0, "acme/support@v1: not pinned\n")
    assert await hotshoe(served, "evict", "acme/support@v1") == (0, "acme/support@v1: not loaded\n")
    code, out = await hotshoe(served, "resident")
    assert "on disk" in out


async def test_drain_says_what_is_left(tmp_path: Path) -> None:
    async with (
        echo_server(tmp_path, token_seconds=0.05) as served,
        AsyncClient(served.address) as client,
    ):
        stream = client.stream("hello hello hello")
        await anext(stream)
        code, out = await hotshoe(served, "drain", "--seconds", "0.1")
        assert code == 1
        assert "1 requests are still under way" in out
        assert [event async for event in stream]
        code, out = await hotshoe(served, "drain")
        assert code == 0
        assert out.startswith("drained")
        assert await hotshoe(served, "resume") == (0, "requests are taken\n")
        assert (await client.generate("hi")).text == "base: hi"


async def test_what_is_wrong_is_told_with_its_exit_code(served: Served) -> None:
    code, out = await hotshoe(served, "warm", "nobody")
    assert code == 2
    assert "InvalidReference" in out
    code, out = await hotshoe(served, "warm", "acme/nobody")
    assert code == 1
    assert "AdapterNotFound" in out
    code, out = await hotshoe(served, "status", "--target", "127.0.0.1:1")
    assert code == 1
    assert "does not answer" in out
