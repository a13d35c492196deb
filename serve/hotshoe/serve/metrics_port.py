"""Metrics over HTTP: the server's own, and whatever its process has beside them (vLLM's)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from prometheus_client import REGISTRY, CollectorRegistry, Metric, start_http_server
from prometheus_client.registry import Collector

from hotshoe.serve.config import check_free, parse_address


@contextlib.contextmanager
def exposed(registry: CollectorRegistry, address: str) -> Iterator[str]:
    """Answer `GET /metrics` at `address` until the block ends; yield it with the port that was taken.

    Raises AddressInUse or InvalidConfig.
    """
    check_free(address)
    host, port = parse_address(address)
    both = CollectorRegistry()
    both.register(_Metrics(registry))
    both.register(_Metrics(REGISTRY))
    server, thread = start_http_server(port, host, both)
    try:
        yield f"[{host}]:{server.server_port}" if ":" in host else f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Metrics(Collector):
    """A registry as part of another."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        return self._registry.collect()
