"""A whole server on a free loopback port, with an engine that echoes and a registry in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.adapters import LEGAL, SUPPORT, make_adapter, make_base

from hotshoe.registry import BaseModel, Registry, open_registry
from hotshoe.serve.admission import Admission
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.server import running
from hotshoe.serve.telemetry import Telemetry


@dataclass(frozen=True)
class Shop:
    """A base and a registry: acme/support v1 and v2 and globex/legal v1, each with `prod` on v1."""

    base: BaseModel
    registry: Registry


@dataclass(frozen=True)
class Served:
    """A server that runs, and what it runs on."""

    address: str
    engine: EchoEngine
    registry: Registry
    pool: AdapterPool
    admission: Admission
    telemetry: Telemetry


@contextlib.contextmanager
def open_shop(folder: Path) -> Iterator[Shop]:
    """Open a registry with something in it."""
    base = make_base(folder / "base")
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        for name, seed in ((SUPPORT, 1), (SUPPORT, 2), (LEGAL, 3)):
            registry.publish(make_adapter(folder / f"adapter-{seed}", seed), name, base=base)
        registry.promote(SUPPORT, "prod", 1)
        registry.promote(LEGAL, "prod", 1)
        yield Shop(base, registry)


@contextlib.asynccontextmanager
async def echo_server(
    folder: Path,
    *,
    token_seconds: float = 0.0,
    context_tokens: int = 2048,
    slots: int = 4,
    drain_seconds: float = 5.0,
    max_message_bytes: int = 4 << 20,
    **settings: Any,
) -> AsyncIterator[Served]:
    """Serve the echo engine until the block ends. settings: more of ServeConfig."""
    with open_shop(folder) as shop:
        engine = EchoEngine(
            shop.base.base,
            slots=slots,
            max_rank=16,
            context_tokens=context_tokens,
            token_seconds=token_seconds,
        )
        config = ServeConfig(
            base="echo",
            listen=settings.pop("listen", "127.0.0.1:0"),
            slots=slots,
            resident=slots,
            drain_seconds=drain_seconds,
            max_message_bytes=max_message_bytes,
            **settings,
        )
        async with running(config, engine, shop.registry) as server:
            yield Served(
                server.address, engine, shop.registry, server.pool, server.admission, server.telemetry
            )
        await engine.close()
