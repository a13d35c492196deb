"""The server's port: who may connect, and what gRPC itself puts up with from rude clients."""

from __future__ import annotations

import grpc

from hotshoe.adapter.errors import AddressInUse
from hotshoe.serve.config import ServeConfig, parse_address
from hotshoe.serve.tls import Certificate

# Answers under way at once, over all connections. Past that gRPC itself says RESOURCE_EXHAUSTED.
MAX_CALLS = 16_384
MAX_METADATA_BYTES = 16 << 10
HANDSHAKE_SECONDS = 10
# A client that is gone without a word is noticed, and its work ended, after the sum of these two.
PING_SECONDS = 30
PONG_SECONDS = 10
# gRPC's own default of 300 s would cut off clients that look after their connections as we do.
LEAST_SECONDS_BETWEEN_PINGS = 10
IDLE_SECONDS = 1800
FOR_EVER = 2**31 - 1
"""What gRPC takes for no limit; anything larger is no number to it."""


def new_server(config: ServeConfig) -> grpc.aio.Server:
    """A server without services, not yet listening."""
    options = [
        ("grpc.so_reuseport", 0),  # Otherwise two servers share a port and each gets half of the calls.
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_concurrent_streams", config.max_streams),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
        ("grpc.keepalive_time_ms", PING_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", PONG_SECONDS * 1000),
        # The one that counts: gRPC has a time of its own for an answer to a ping, and that is a minute.
        ("grpc.http2.ping_timeout_ms", PONG_SECONDS * 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_SECONDS_BETWEEN_PINGS * 1000),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        ("grpc.max_connection_age_ms", min(round(config.connection_seconds * 1000), FOR_EVER)),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)


def listen(server: grpc.aio.Server, address: str, certificate: Certificate | None) -> str:
    """Open the port, behind TLS if there is a certificate; the address with the port that was taken.

    Raises AddressInUse.
    """
    host, _ = parse_address(address)
    try:
        if certificate is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, certificate.credentials())
    except RuntimeError as error:
        raise AddressInUse(
            f"{address} cannot be listened on: choose another port, or 0 for a free one"
        ) from error
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
