"""`python -m hotshoe.client.health [--alive] HOST:PORT`: exit 0 if a server is ready there, 1 if not.

For probes in containers. With --alive a server that answers is good enough, ready or not: one that drains
or replaces its engine must not be killed for it. Speaks grpc.health.v1 with what the bare install has;
over TLS where the environment says so (HOTSHOE_TLS_CA and others, see `hotshoe.client.Tls.from_environment`).
"""

from __future__ import annotations

import argparse
import sys

import grpc

from hotshoe.adapter.errors import HotshoeError
from hotshoe.client.connection import Tls, channel

CHECK = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
"""HealthCheckResponse{status: SERVING} on the wire: the only answer that means ready."""


def is_ready(target: str, *, timeout_seconds: float = 3.0, tls: Tls | None = None) -> bool:
    """Whether the server at `target` says SERVING within the time."""
    return _answer(target, timeout_seconds, tls) == SERVING


def is_alive(target: str, *, timeout_seconds: float = 3.0, tls: Tls | None = None) -> bool:
    """Whether the server at `target` says how it is within the time, whatever it says."""
    return _answer(target, timeout_seconds, tls) is not None


def _answer(target: str, timeout_seconds: float, tls: Tls | None) -> bytes | None:
    with channel(target, tls) as connected:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = connected.unary_unary(CHECK)
        try:
            return check(b"", timeout=timeout_seconds)
        except grpc.RpcError:
            return None


def main() -> int:
    """The exit code; why a probe could not be sent at all goes to standard error."""
    parser = argparse.ArgumentParser(prog="python -m hotshoe.client.health", description="Probe a server.")
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--alive", action="store_true", help="any answer will do, ready or not")
    arguments = parser.parse_args()
    probe = is_alive if arguments.alive else is_ready
    try:
        return 0 if probe(arguments.target, tls=Tls.from_environment()) else 1
    except HotshoeError as error:
        print(error.message, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
