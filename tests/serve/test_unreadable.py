"""Bytes that are no message get a typed answer from every method, and only from who may be told."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from support.serving import echo_server

from hotshoe.adapter.errors import HotshoeError
from hotshoe.serve.tenants import key_hash
from hotshoe.v1 import admin_pb2, inference_pb2
from hotshoe.wire.status import to_error

NO_MESSAGE = b"\xff\xff\xff\xff"
METHODS = [
    (service.full_name, method.name, method.server_streaming)
    for service in (
        inference_pb2.DESCRIPTOR.services_by_name["Inference"],
        admin_pb2.DESCRIPTOR.services_by_name["Admin"],
    )
    for method in service.methods
]
OTHERS = [(health.SERVICE_NAME, "Check", False), (health.SERVICE_NAME, "Watch", True)]


async def error_of(
    channel: grpc.aio.Channel, service: str, method: str, key: str = "", *, streams: bool
) -> HotshoeError:
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    path = f"/{service}/{method}"
    call: grpc.aio.Call
    if streams:
        many: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
        call = many(NO_MESSAGE, metadata=metadata, timeout=10)
    else:
        one: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        call = one(NO_MESSAGE, metadata=metadata, timeout=10)
    return to_error(await call.code(), await call.details() or "", await call.trailing_metadata())


async def test_every_method_says_that_the_bytes_are_no_message(tmp_path: Path) -> None:
    assert len(METHODS) > 12
    async with echo_server(tmp_path) as served, grpc.aio.insecure_channel(served.address) as channel:
        for service, method, streams in (*METHODS, *OTHERS):
            error = await error_of(channel, service, method, streams=streams)
            assert (method, error.reason) == (method, "INVALID_REQUEST")
            assert "no message" in error.message


async def test_reflection_says_so_too(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as served, grpc.aio.insecure_channel(served.address) as channel:
        both: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
        )
        call = both(iter([NO_MESSAGE]), timeout=10)
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_who_may_not_ask_learns_nothing_more(tmp_path: Path) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(f'[tenants.acme]\nkeys = ["{key_hash("hs_acme")}"]\n')
    async with (
        echo_server(tmp_path, tenants=tenants) as served,
        grpc.aio.insecure_channel(served.address) as channel,
    ):
        for service, method, streams in METHODS:
            error = await error_of(channel, service, method, streams=streams)
            assert (method, error.reason) == (method, "UNAUTHENTICATED")
            error = await error_of(channel, service, method, "hs_acme", streams=streams)
            admin = service.endswith("Admin")
            assert (method, error.reason) == (method, "PERMISSION_DENIED" if admin else "INVALID_REQUEST")
