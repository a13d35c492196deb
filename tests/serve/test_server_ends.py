"""How work in a server ends, and how the server does; its state, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.calls import ask, calling, error_info, read_all
from support.serving import Served, echo_server
from support.waiting import eventually

from hotshoe.adapter.errors import AddressInUse, EngineUnavailable
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.server import running
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc

INFERENCE = "hotshoe.v1.Inference"
ADMIN = "hotshoe.v1.Admin"


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with echo_server(tmp_path_factory.mktemp("served")) as server:
        yield server


# How work ends


async def test_a_stream_that_the_client_cancels_ends_in_the_engine(tmp_path: Path) -> None:
    async with echo_server(tmp_path, token_seconds=0.2) as served, calling(served.address) as stub:
        call = stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask("x" * 500, "acme/support")))
        await call.read()
        await eventually(lambda: len(served.engine.running) == 1)
        call.cancel()
        await eventually(lambda: not served.engine.running)
        version = next(iter(served.pool.resident()))
        await eventually(lambda: served.pool.leases(version) == 0)


async def test_a_stream_that_the_client_cancels_before_it_heard_anything_ends_in_the_engine(
    tmp_path: Path,
) -> None:
    async with echo_server(tmp_path, token_seconds=60) as served, calling(served.address) as stub:
        call = stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask("hi", "acme/support")))
        reading = asyncio.ensure_future(call.read())
        await eventually(lambda: len(served.engine.running) == 1)
        call.cancel()
        await eventually(lambda: not served.engine.running)
        version = next(iter(served.pool.resident()))
        await eventually(lambda: served.pool.leases(version) == 0)
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_stream_whose_client_reads_nothing_ends_in_the_engine_all_the_same(tmp_path: Path) -> None:
    """The server is then stuck in sending, not in generating."""
    async with echo_server(tmp_path, context_tokens=1_000_000) as served:
        options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
        async with grpc.aio.insecure_channel(served.address, options=options) as channel:
            stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)
            call = stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask("x" * 300_000)))
            await call.read()
            await asyncio.sleep(1)
            assert served.engine.running
            call.cancel()
            await eventually(lambda: not served.engine.running)


async def test_an_answer_that_the_client_cancels_ends_in_the_engine(tmp_path: Path) -> None:
    async with echo_server(tmp_path, token_seconds=0.2) as served, calling(served.address) as stub:
        call = stub.Generate(pb.GenerateRequest(generation=ask("x" * 500)))
        waiting = asyncio.ensure_future(call)
        await eventually(lambda: len(served.engine.running) == 1)
        call.cancel()
        await eventually(lambda: not served.engine.running)
        with pytest.raises(asyncio.CancelledError):
            await waiting


@pytest.mark.parametrize("streamed", [True, False])
async def test_work_ends_in_the_engine_when_its_time_is_over(tmp_path: Path, streamed: bool) -> None:
    async with echo_server(tmp_path, token_seconds=0.1) as served, calling(served.address) as stub:
        generation = ask("x" * 500)
        call: Awaitable[Any]
        if streamed:
            call = read_all(stub.StreamGenerate(pb.StreamGenerateRequest(generation=generation), timeout=0.4))
        else:
            call = stub.Generate(pb.GenerateRequest(generation=generation), timeout=0.4)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: not served.engine.running)


async def test_a_client_that_vanishes_leaves_no_work_behind(tmp_path: Path) -> None:
    async with echo_server(tmp_path, token_seconds=0.1) as served:
        async with calling(served.address) as stub:
            call = stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask("x" * 500)))
            await call.read()
            await eventually(lambda: len(served.engine.running) == 1)
        await eventually(lambda: not served.engine.running)


# Its state, seen from outside


async def health_of(address: str, service: str = "") -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


@pytest.mark.parametrize("service", ["", INFERENCE, ADMIN])
async def test_health_is_told_for_the_server_and_for_each_service(served: Served, service: str) -> None:
    assert await health_of(served.address, service) == "SERVING"


async def test_health_of_a_service_that_is_not_here_is_not_told(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await health_of(served.address, "hotshoe.v1.Nothing")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_dead_engine_makes_it_unhealthy_and_its_callers_unavailable(tmp_path: Path) -> None:
    async with echo_server(tmp_path, token_seconds=0.1) as served, calling(served.address) as stub:
        events = aiter(stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask("x" * 500))))
        await anext(events)
        served.engine.die()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in events:
                pass
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(raised.value).reason == "ENGINE_UNAVAILABLE"
        async with asyncio.timeout(5):
            while await health_of(served.address) == "SERVING":
                await asyncio.sleep(0.05)


async def test_reflection_lists_the_services(served: Served) -> None:
    async with grpc.aio.insecure_channel(served.address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]
        message: Any = reflection_pb2.ServerReflectionRequest
        request = message(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert {INFERENCE, "grpc.health.v1.Health"} <= listed


async def test_draining_lets_streams_finish_and_takes_no_new_ones(tmp_path: Path) -> None:
    rest: list[pb.StreamGenerateResponse] = []
    async with contextlib.AsyncExitStack() as channels:
        async with echo_server(tmp_path, token_seconds=0.05) as served:
            stub = await channels.enter_async_context(calling(served.address))
            events = aiter(stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask("x" * 10))))
            await anext(events)

            async def read_on() -> None:
                rest.extend([message async for message in events])

            reading = asyncio.create_task(read_on())
        await reading
        assert rest[-1].HasField("finished")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Generate(pb.GenerateRequest(generation=ask()))
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_draining_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as channels:
        async with asyncio.timeout(5), echo_server(tmp_path, token_seconds=1, drain_seconds=0.2) as served:
            stub = await channels.enter_async_context(calling(served.address))
            events = aiter(stub.StreamGenerate(pb.StreamGenerateRequest(generation=ask("x" * 500))))
            await anext(events)
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in events:
                pass


async def test_an_address_that_is_taken_is_refused_by_name(served: Served) -> None:
    config = ServeConfig(base="echo", listen=served.address)
    with pytest.raises(AddressInUse, match=served.address):
        async with running(config, served.engine, served.registry):
            pass


async def test_an_engine_that_generates_nothing_is_not_ready(tmp_path: Path, served: Served) -> None:
    from hotshoe.serve.echo_engine import EchoEngine

    engine = EchoEngine(served.engine.facts.base)
    engine.die()
    with pytest.raises(EngineUnavailable):
        async with running(ServeConfig(base="echo", listen="127.0.0.1:0"), engine, served.registry):
            pass
