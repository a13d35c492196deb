"""What both clients share: arguments to requests, gRPC's errors to ours."""

from __future__ import annotations

from typing import cast

import grpc

from hotshoe.adapter.errors import HotshoeError, InvalidConfig, PromptTooLong
from hotshoe.adapter.reference import AdapterRef
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.wire import messages, status
from hotshoe.wire.values import Chat, GenerateRequest, Message, Prompt, Sampling


def generation(
    prompt: Prompt | str,
    adapter: AdapterRef | str | None,
    sampling: Sampling | None,
    session: str = "",
    priority: int = 0,
) -> pb.Generation:
    """The request for these arguments; a bare string is one user's turn in a chat."""
    if isinstance(prompt, str):
        prompt = Chat((Message("user", prompt),))
    if isinstance(adapter, str):
        adapter = AdapterRef.parse(adapter)
    request = GenerateRequest(prompt, adapter, sampling or Sampling(), session, priority)
    return messages.from_request(request)


def metadata(api_key: str | None) -> tuple[tuple[str, str], ...]:
    """What goes with every call; raise InvalidConfig for a key that no header can hold."""
    if api_key is None:
        return ()
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidConfig("the API key is empty or has characters that no key has: check how it was copied")
    return (("authorization", f"Bearer {key}"),)


def error_of(error: grpc.RpcError, target: str) -> HotshoeError:
    """The error that the server raised, of the same class; what gRPC itself says names the target."""
    code = error.code()
    text = error.details() or ""
    trailers = cast(status.Trailers, error.trailing_metadata() or ())
    if code is grpc.StatusCode.CANCELLED and not trailers:
        # Not by us: gRPC says this of calls that reach a server in the moment in which it ends.
        code = grpc.StatusCode.UNAVAILABLE
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return PromptTooLong(f"{target} takes no message of this size ({text}): shorten the prompt")
    if code is grpc.StatusCode.UNAVAILABLE and not trailers:
        text = f"{target} does not answer ({text}): is a server running there? `hotshoe serve` starts one"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        text = f"no whole answer from {target} within the time that was given: allow more, or ask for less"
    return status.to_error(code, text, trailers)
