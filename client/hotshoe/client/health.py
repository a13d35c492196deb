"""`python -m hotshoe.client.health HOST:PORT`: exit 0 if a server is ready there, 1 if not.

For probes in containers. Speaks grpc.health.v1 with what the bare install has.
"""

from __future__ import annotations

import sys

import grpc

SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING} on the wire: the only answer that means ready."""


def is_ready(target: str, *, timeout_seconds: float = 3.0) -> bool:
    """Whether the server at `target` says SERVING within the time."""
    with grpc.insecure_channel(target) as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/grpc.health.v1.Health/Check"
        )
        try:
            answer: bytes = check(b"", timeout=timeout_seconds)
        except grpc.RpcError:
            return False
    return answer == SERVING


if __name__ == "__main__":
    sys.exit(0 if is_ready(sys.argv[1]) else 1)
