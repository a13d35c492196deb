"""`python -m benchmarks.empty_grpc`: a gRPC server that answers at once. What a socket costs before anything
is done behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import uvloop

METHOD = "/benchmarks.Empty/Stream"
MESSAGES = 4
"""Of an answer: the first token, what comes while it goes on, the end."""

REQUEST, MESSAGE = b"q" * 80, b"a" * 60
"""About what a prompt of 16 tokens, and a few tokens of an answer, take."""


async def _answer(_request: bytes, _context: object) -> AsyncIterator[bytes]:
    for _ in range(MESSAGES):
        yield MESSAGE


async def _serve() -> None:
    service, _, method = METHOD.lstrip("/").partition("/")
    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(_answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(_serve())
