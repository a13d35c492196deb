"""Servers that fall silent in the middle of a call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.serving import echo_server
from support.wire import Wire

from hotshoe.adapter.errors import Unavailable
from hotshoe.client import AsyncClient, connection


async def test_a_server_that_falls_silent_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hastened = [
        (name, int(value) // 15 if "keepalive" in name or "ping" in name else value)
        for name, value in connection.CHANNEL_OPTIONS
    ]
    monkeypatch.setattr(connection, "CHANNEL_OPTIONS", tuple(hastened))
    wire = Wire()
    async with echo_server(tmp_path, token_seconds=0.2) as served:
        with wire.to(served.address):
            async with AsyncClient(wire.address) as client:
                events = client.stream("x" * 500)
                await anext(events)
                wire.cut()
                # A fifteenth of 40 s; without a word of ours it would be over a minute.
                async with asyncio.timeout(30):
                    with pytest.raises(Unavailable):
                        async for _ in events:
                            pass
