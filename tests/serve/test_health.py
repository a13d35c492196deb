"""The health service stays true to the engine."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.certificates import Authority
from support.serving import echo_server, open_shop

from hotshoe.client import AdminClient
from hotshoe.client.health import is_alive, is_ready
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.server import running
from hotshoe.serve.tls import TlsFiles


class Moody(EchoEngine):
    """fault: raised when somebody looks after it."""

    fault: Exception | None = None

    async def check(self) -> None:
        if self.fault is not None:
            raise self.fault


async def test_an_error_that_nobody_foresaw_is_told_as_ill_and_its_end_as_well(tmp_path: Path) -> None:
    with open_shop(tmp_path) as shop:
        engine = Moody(shop.base.base, max_rank=16)
        config = ServeConfig(base="echo", listen="127.0.0.1:0")
        async with running(config, engine, shop.registry) as server, asyncio.timeout(10):
            for fault in (ZeroDivisionError("of all things"), None):
                engine.fault = fault
                while await asyncio.to_thread(is_ready, server.address) is not (fault is None):
                    await asyncio.sleep(0.05)
        await engine.close()


async def probe(*arguments: str, environment: Mapping[str, str] = os.environ) -> int:
    """The exit code that a container's probe gets."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hotshoe.client.health", *arguments, env=environment
    )
    return await process.wait()


async def test_a_server_that_drains_is_alive_though_not_ready(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as served:
        assert (await probe(served.address), await probe("--alive", served.address)) == (0, 0)
        with AdminClient(served.address) as admin:
            await asyncio.to_thread(admin.drain, 1)
        assert (await probe(served.address), await probe("--alive", served.address)) == (1, 0)
    assert await probe("--alive", served.address) == 1


async def test_a_port_that_takes_connections_and_says_nothing_is_not_alive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = "{}:{}".format(*silent.getsockname())
        assert not await asyncio.to_thread(is_alive, address, timeout_seconds=0.5)


async def test_behind_tls_a_probe_trusts_whom_its_environment_names(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(tmp_path / "certificates")
    pair = authority.sign("hotshoe")
    told = os.environ | {"HOTSHOE_TLS_CA": str(authority.file), "HOTSHOE_TLS_SERVER_NAME": "hotshoe"}
    async with echo_server(tmp_path, tls=TlsFiles(pair.certificate, pair.key)) as served:
        assert await probe(served.address, environment=told) == 0
        assert await probe(served.address) == 1
        assert await probe(served.address, environment=told | {"HOTSHOE_TLS_SERVER_NAME": "other"}) == 1
        assert await probe(served.address, environment=told | {"HOTSHOE_TLS_CA": "nowhere.crt"}) == 1
    assert "nowhere.crt cannot be read" in capfd.readouterr().err
