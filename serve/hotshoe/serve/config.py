"""What a server is told, checked before anything is loaded."""

from __future__ import annotations

import ipaddress
import math
import socket
from dataclasses import dataclass
from pathlib import Path

from hotshoe.adapter.errors import AddressInUse, HotshoeError, InvalidConfig
from hotshoe.adapter.reference import AdapterRef
from hotshoe.serve.tls import TlsFiles

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The slot ranks that vLLM takes (vllm.config.lora)."""

SLOTS = 8
RESIDENT = 1024

SILENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """One server.

    base: folder, `org/repo[@revision]` or `package:NAME`. listen: `HOST:PORT`; port 0 takes a free one.
    registry: as `open_registry` takes it. slots: adapters active in one step. resident: adapters in the
    engine's memory, at least `slots`; adapter_memory_bytes: what they may take there together. max_rank:
    the largest LoRA rank, one of RANKS.
    context_tokens: prompt plus answer; None takes the base's own, bounded by kv_cache_bytes.
    sequences: answers in one step. threads: the engine's compute threads. silence_seconds: an engine that
    gives no sign of life for longer, between two steps, is killed and started again.
    pin: adapters, as `org/name[@selector]`, whose versions stay loaded, whatever their aliases move to.
    same_template: refuse versions that were trained with another chat template than the base has here.
    tenants: the file that says who may call (see hotshoe.serve.tenants_file); None asks nobody.
    allow_open: listen beyond this machine although nobody has to identify themselves.
    metrics: `HOST:PORT` where Prometheus asks over HTTP; None answers it nowhere.
    tls: the certificate's files; None speaks in the clear. With a client_authority in them only those
    may connect who show a certificate of it. max_streams: answers under way on one connection.
    connection_seconds: how old a connection grows before its client is asked to open another, and so
    learns of servers that have come since; calls end where they began.
    ledger: the SQLite file that usage is written to; None keeps no books.
    traces: send OpenTelemetry spans as OTEL_EXPORTER_OTLP_ENDPOINT says. log_prompts: put prompts into
    the log's lines of requests.
    """

    base: str
    listen: str = "127.0.0.1:50051"
    registry: str | None = None
    slots: int = SLOTS
    resident: int = RESIDENT
    adapter_memory_bytes: int = 1 << 30
    max_rank: int = 16
    context_tokens: int | None = None
    kv_cache_bytes: int = 1 << 30
    sequences: int = 64
    threads: int = 1
    silence_seconds: float = SILENCE_SECONDS
    drain_seconds: float = 30.0
    max_message_bytes: int = 4 << 20
    pin: tuple[str, ...] = ()
    same_template: bool = False
    tenants: Path | None = None
    allow_open: bool = False
    max_streams: int = 1024
    connection_seconds: float = 300.0
    tls: TlsFiles | None = None
    metrics: str | None = None
    ledger: Path | None = None
    traces: bool = False
    log_prompts: bool = False

    def __post_init__(self) -> None:
        host, _ = parse_address(self.listen)
        by_certificate = self.tls is not None and self.tls.client_authority is not None
        asks_who = by_certificate or self.tenants is not None
        if not self.allow_open and not asks_who and not _is_loopback(host):
            raise InvalidConfig(
                f"{self.listen} can be reached from other machines, and this server asks nobody "
                "who they are: listen on 127.0.0.1, name who may call with --tenants, ask for certificates "
                "with --tls-client-ca, or say --allow-open if that is what you want"
            )
        if self.metrics is not None:
            parse_address(self.metrics)
        _ = self.pinned_refs  # For what it raises.
        if self.max_rank not in RANKS:
            raise InvalidConfig(f"max_rank is {self.max_rank}: choose one of {', '.join(map(str, RANKS))}")
        _at_least("slots", self.slots, 1)
        _at_least("resident", self.resident, self.slots)
        _at_least("adapter_memory_bytes", self.adapter_memory_bytes, 1 << 20)
        _at_least("sequences", self.sequences, 1)
        _at_least("max_streams", self.max_streams, 1)
        _at_least("connection_seconds", self.connection_seconds, 1)
        _at_least("threads", self.threads, 1)
        _at_least("kv_cache_bytes", self.kv_cache_bytes, 1 << 20)
        _at_least("silence_seconds", self.silence_seconds, 1)
        _at_least("drain_seconds", self.drain_seconds, 0)
        if self.context_tokens is not None:
            _at_least("context_tokens", self.context_tokens, 16)

    @property
    def pinned_refs(self) -> tuple[AdapterRef, ...]:
        """`pin`, parsed."""
        try:
            return tuple(AdapterRef.parse(each) for each in self.pin)
        except HotshoeError as error:
            raise InvalidConfig(f"pin: {error.message}") from error


def parse_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT` or `[IPV6]:PORT`; raise InvalidConfig for anything else."""
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host == f"[{bare}]"
    if not colon or not bare or (":" in bare) != bracketed or not port.isdecimal() or int(port) > 65_535:
        raise InvalidConfig(f"{address!r} is no address: write HOST:PORT, for example 127.0.0.1:50051")
    return bare, int(port)


def check_free(address: str) -> None:
    """Raise AddressInUse if something listens on `address`, InvalidConfig if it is not this machine's."""
    host, port = parse_address(address)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except socket.gaierror as error:
        raise InvalidConfig(f"{host!r} is no host that can be found: {error.strerror}") from error
    except PermissionError as error:
        raise InvalidConfig(f"{address} needs rights this process lacks: choose a port over 1023") from error
    except OSError as error:
        raise AddressInUse(
            f"{address} cannot be listened on ({error.strerror}): choose another port, or 0 for a free one"
        ) from error


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _at_least(name: str, value: float, least: float) -> None:
    # Not the other way round: neither not-a-number nor without end is a number to count with.
    if not least <= value < math.inf:
        raise InvalidConfig(f"{name} is {value}: give a number, at least {least}")
