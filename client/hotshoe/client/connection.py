"""How a client reaches a server: in the clear on this machine, or over TLS."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from hotshoe.adapter.errors import InvalidConfig

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.enable_http_proxy", 0),  # A proxy for web traffic is seldom meant for the model server.
    # Calls go to every address of the target's name in turn, so what one replica refuses another may take.
    ("grpc.lb_policy_name", "round_robin"),
    # One that comes back is found again soon, however long it was gone.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A server that is gone without a word is noticed after 40 s of a call, not after hours.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # Else that waits for a minute on its own.
)


@dataclass(frozen=True, slots=True)
class Tls:
    """Who is trusted, and who we are. All files are PEM.

    authority: who signs the server's certificate; None trusts whom gRPC trusts, the public authorities.
    certificate, key: ours, for servers that ask for one (mTLS). server_name: the name that the server's
    certificate must have, where it is not the host that is called.
    """

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InvalidConfig("a client certificate needs its key and a key its certificate: give both")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Tls | None:
        """As HOTSHOE_TLS_CA, _CERT, _KEY, _SERVER_NAME say; None if neither they nor HOTSHOE_TLS are set."""
        authority, certificate, key, name = (
            environment.get(f"HOTSHOE_TLS_{each}") or None for each in ("CA", "CERT", "KEY", "SERVER_NAME")
        )
        if not any((environment.get("HOTSHOE_TLS"), authority, certificate, key, name)):
            return None
        return cls(
            Path(authority) if authority else None,
            Path(certificate) if certificate else None,
            Path(key) if key else None,
            name,
        )

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel. Raises InvalidConfig for a file that cannot be read."""
        return grpc.ssl_channel_credentials(
            root_certificates=_bytes(self.authority),
            private_key=_bytes(self.key),
            certificate_chain=_bytes(self.certificate),
        )

    @property
    def options(self) -> tuple[tuple[str, int | str], ...]:
        """Channel options that go with the credentials."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()


def channel(target: str, tls: Tls | None) -> grpc.Channel:
    """A blocking channel. It connects when it is first used."""
    if tls is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(target, tls.credentials(), options=(*CHANNEL_OPTIONS, *tls.options))


def aio_channel(target: str, tls: Tls | None) -> grpc.aio.Channel:
    """A channel for asyncio. It connects when it is first used."""
    if tls is None:
        return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(target, tls.credentials(), options=(*CHANNEL_OPTIONS, *tls.options))


def _bytes(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read: {error.strerror}") from error
