"""`python -m hotshoe.client.health HOST:PORT`: exit 0 if a server is ready there, 1 if not.

For probes in containers. Speaks grpc.health.v1 with what the bare install has; over TLS where the
environment says so (HOTSHOE_TLS_CA and others, see `hotshoe.client.Tls.from_environment`).
"""

from __future__ import annotations

import sys

import grpc

from hotshoe.client.connection import Tls, channel

CHECK = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING} on the wire: the only answer that means ready."""


def is_ready(target: str, *, timeout_seconds: float = 3.0, tls: Tls | None = None) -> bool:
    """Whether the server at `target` says SERVING within the time."""
    with channel(target, tls) as connected:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = connected.unary_unary(CHECK)
        try:
            answer: bytes = check(b"", timeout=timeout_seconds)
        except grpc.RpcError:
            return False
    return answer == SERVING


if __name__ == "__main__":
    sys.exit(0 if is_ready(sys.argv[1], tls=Tls.from_environment()) else 1)
