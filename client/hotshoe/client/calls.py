"""What both clients share: arguments to requests, gRPC's errors to ours."""

from __future__ import annotations

from typing import cast

import grpc

from hotshoe.adapter.errors import HotshoeError
from hotshoe.adapter.reference import AdapterRef
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.wire import messages, status
from hotshoe.wire.values import Chat, GenerateRequest, Message, Prompt, Sampling


def generation(
    prompt: Prompt | str, adapter: AdapterRef | str | None, sampling: Sampling | None
) -> pb.Generation:
    """The request for these arguments; a bare string is one user's turn in a chat."""
    if isinstance(prompt, str):
        prompt = Chat((Message("user", prompt),))
    if isinstance(adapter, str):
        adapter = AdapterRef.parse(adapter)
    return messages.from_request(GenerateRequest(prompt, adapter, sampling or Sampling()))


def error_of(error: grpc.RpcError, target: str) -> HotshoeError:
    """The error that the server raised, of the same class; what gRPC itself says names the target."""
    code = error.code()
    text = error.details() or ""
    trailers = cast(status.Trailers, error.trailing_metadata() or ())
    if code is grpc.StatusCode.UNAVAILABLE and not trailers:
        text = f"{target} does not answer ({text}): is a server running there? `hotshoe serve` starts one"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        text = f"no whole answer from {target} within the time that was given: allow more, or ask for less"
    return status.to_error(code, text, trailers)
