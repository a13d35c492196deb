"""Everything by which a server is seen from outside, opened and closed together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from hotshoe.adapter.manifest import Base
from hotshoe.serve.admission import Admission
from hotshoe.serve.call import Observer
from hotshoe.serve.catalog import Catalog
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.identity import Identity
from hotshoe.serve.journal import Journal
from hotshoe.serve.ledger import Ledger
from hotshoe.serve.logs import CallLog
from hotshoe.serve.metrics import Metrics
from hotshoe.serve.metrics_port import exposed
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.refusals import Refusals
from hotshoe.serve.tally import Tally
from hotshoe.serve.tls import Certificate
from hotshoe.serve.traces import tracing


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Who is told of calls (observers), of what was none yet (refusals), and of adapters (journal).

    metrics_address: where metrics are, empty if nowhere.
    """

    observers: tuple[Observer, ...]
    refusals: Refusals
    journal: Journal
    metrics: Metrics
    metrics_address: str
    tally: Tally

    def watch(self, pool: AdapterPool, catalog: Catalog, admission: Admission) -> None:
        """Show the state of these in the metrics."""
        gauge = self.metrics.gauge
        gauge("requests_waiting", "Requests in line for the engine.", lambda: admission.waiting)
        gauge("requests_in_engine", "Requests in the engine.", lambda: admission.running)
        gauge("adapters_loaded", "Adapters in the engine's memory.", lambda: pool.occupancy().loaded)
        gauge("adapters_loading", "Adapters on their way there.", lambda: pool.occupancy().loading)
        gauge("adapters_leased", "Adapters that requests use.", lambda: pool.occupancy().leased)
        gauge("adapters_capacity", "Adapters that may be loaded.", lambda: pool.occupancy().capacity)
        gauge("adapters_bytes", "What they take of its memory.", lambda: pool.occupancy().bytes)
        gauge(
            "adapters_capacity_bytes",
            "What they may take of it.",
            lambda: pool.occupancy().capacity_bytes,
        )
        gauge(
            "aliases_stuck",
            "Aliases that should answer with another version, but it cannot be loaded.",
            lambda: len(catalog.stuck()),
        )
        gauge(
            "alias_knowledge_age_seconds",
            "How long ago the registry last said what moved.",
            catalog.age_seconds,
        )

    def watch_tenants(self, identity: Identity) -> None:
        """Show whether the tenants file that is there now counts."""
        self.metrics.gauge(
            "tenants_file_faulty",
            "1 while the tenants file makes no sense, so that the one before it goes on.",
            lambda: int(identity.fault is not None),
        )

    def watch_certificate(self, certificate: Certificate) -> None:
        """Show when it ends, so that somebody is woken before."""
        self.metrics.gauge(
            "certificate_expires_timestamp_seconds",
            "When the server's certificate ends, in seconds since 1970.",
            lambda: certificate.expires,
        )


@contextlib.contextmanager
def telemetry(config: ServeConfig, base: Base) -> Iterator[Telemetry]:
    """Open what `config` asks for until the block ends. Raises AddressInUse or InvalidConfig."""
    with contextlib.ExitStack() as stack:
        metrics, journal = Metrics(base), Journal()
        tally = Tally()
        observers: list[Observer] = [metrics, tally, CallLog(with_prompts=config.log_prompts)]
        journal.read_by(metrics.on_happening)
        refusals = Refusals()
        refusals.listeners.append(metrics.on_refusal)
        address = stack.enter_context(exposed(metrics.registry, config.metrics)) if config.metrics else ""
        if config.ledger:
            observers.append(stack.enter_context(Ledger(config.ledger).writing()))
        if config.traces:
            observers.append(stack.enter_context(tracing()))
        yield Telemetry(tuple(observers), refusals, journal, metrics, address, tally)
