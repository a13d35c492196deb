"""The server's port against clients that fall silent, and against clients that ping without end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.calls import ask, calling
from support.serving import echo_server
from support.waiting import eventually
from support.wire import Wire

from hotshoe.serve import transport
from hotshoe.v1 import inference_pb2 as pb


async def test_work_of_a_client_that_falls_silent_ends_in_the_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert transport.PING_SECONDS + transport.PONG_SECONDS == 40  # As docs/operating.md says.
    monkeypatch.setattr(transport, "PING_SECONDS", 1)
    monkeypatch.setattr(transport, "PONG_SECONDS", 1)
    wire = Wire()
    async with echo_server(tmp_path, token_seconds=0.2) as served:
        with wire.to(served.address):
            async with calling(wire.address) as stub:
                call = stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask("x" * 500)))
                await call.read()
                await eventually(lambda: len(served.engine.running) == 1)
                wire.cut()
                await eventually(lambda: not served.engine.running)


async def test_a_client_may_ping_as_often_as_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport.LEAST_SECONDS_BETWEEN_PINGS == 10  # As docs/operating.md says.
    monkeypatch.setattr(transport, "LEAST_SECONDS_BETWEEN_PINGS", 1)
    async with (
        echo_server(tmp_path) as served,
        watching_health(served.address, ping_milliseconds=1_300) as call,
    ):
        await asyncio.sleep(7)  # Five pings: with gRPC's own bound the fourth would be one too many.
        assert not call.done()


async def test_a_client_that_pings_more_often_is_sent_away(tmp_path: Path) -> None:
    async with (
        echo_server(tmp_path) as served,
        watching_health(served.address, ping_milliseconds=1_000) as call,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asyncio.wait_for(call.read(), 20)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "too_many_pings" in (raised.value.details() or "").lower().replace(" ", "_")


@contextlib.asynccontextmanager
async def watching_health(address: str, *, ping_milliseconds: int) -> AsyncIterator[Any]:
    """A client that pings in a call in which nothing is sent: what is sent makes gRPC forgive pings."""
    options = [("grpc.keepalive_time_ms", ping_milliseconds), ("grpc.http2.max_pings_without_data", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        call = stub.Watch(health_pb2.HealthCheckRequest())
        await call.read()
        yield call
