"""Bytes that are no message: gRPC by itself answers UNKNOWN, before anybody is asked for a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.serve.answering import Answering, Context


class Unreadable:
    """Stands for a request whose bytes are no message. Reading any field of it raises InvalidRequest."""

    def __getattr__(self, name: str) -> Any:
        raise _no_message()


def require_readable(request: object) -> None:
    """Raise InvalidRequest for a request that is no message, where no field of it would be read."""
    if isinstance(request, Unreadable):
        raise _no_message()


class Registrar:
    """Takes services for `server` as generated code gives them, so that they are asked about bytes too.

    What is no message comes to a method as `Unreadable`; methods that are not ours never get to see it.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Nothing: the same methods come by name."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Have the server answer the service's methods."""
        ours = service.startswith("hotshoe.")
        tolerant = {name: _tolerant(handler, ours=ours) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, tolerant),))


def _tolerant(handler: Any, *, ours: bool) -> grpc.RpcMethodHandler[Any, Any]:
    read, write = _reading(handler.request_deserializer), handler.response_serializer
    if handler.request_streaming:
        make, method = grpc.stream_stream_rpc_method_handler, _each_read(handler.stream_stream)
    elif handler.response_streaming:
        make, method = grpc.unary_stream_rpc_method_handler, handler.unary_stream
        method = method if ours else _stream_read(method)
    else:
        make, method = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        method = method if ours else _read(method)
    return make(method, request_deserializer=read, response_serializer=write)


def _reading(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def reading(data: bytes) -> Any:
        try:
            return read(data)
        except DecodeError:
            return Unreadable()

    return reading


def _read(method: Any) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        await _refuse(request, context)
        return await method(request, context)

    return answer


def _stream_read(method: Any) -> Any:
    async def answer(request: Any, context: Context) -> Any:
        # Its messages go out by themselves, as it does for gRPC.
        await _refuse(request, context)
        await method(request, context)

    return answer


def _each_read(method: Any) -> Any:
    async def answer(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async def readable() -> AsyncIterator[Any]:
            async for request in requests:
                await _refuse(request, context)
                yield request

        async for response in method(readable(), context):
            yield response

    return answer


def _no_message() -> InvalidRequest:
    return InvalidRequest("the request's bytes are no message of this method: send what its .proto file says")


async def _refuse(request: object, context: Context) -> None:
    if isinstance(request, Unreadable):
        async with Answering(context):
            require_readable(request)
