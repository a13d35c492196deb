"""The health service stays true to the engine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from support.serving import open_shop

from hotshoe.client.health import is_ready
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.server import running


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
