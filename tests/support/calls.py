"""Calls of `hotshoe.v1.Inference` by its bare stub, and what they bring."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc


@contextlib.asynccontextmanager
async def calling(address: str) -> AsyncIterator[inference_pb2_grpc.InferenceAsyncStub]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)
        yield stub


def ask(text: str = "hi", adapter: str = "", **sampling: Any) -> pb.Generation:
    return pb.Generation(text=text, adapter=adapter, sampling=pb.Sampling(**sampling))


async def read_all(call: AsyncIterable[pb.StreamGenerateResponse]) -> list[pb.StreamGenerateResponse]:
    return [message async for message in call]


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The one ErrorInfo of a refusal."""
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details)
    assert status.code == error.code().value[0]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info
