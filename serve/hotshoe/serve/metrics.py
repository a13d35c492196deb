"""What Prometheus sees of a server. docs/operating.md says what each series is good for.

A label never has more values than is good for Prometheus: the first 200 pairs of tenant and
adapter are told by name, the rest together as `other`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hotshoe.adapter.manifest import Base
from hotshoe.serve.call import Call, Observer
from hotshoe.serve.labels import OTHER, Bounded
from hotshoe.wire.admin import Happening, What

WHO = ("tenant", "adapter")
FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
INTER_TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5)
WHOLE_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)
LOAD_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


@dataclass(frozen=True, slots=True)
class _Series:
    """What the calls of one pair of tenant and adapter count into: finding a series takes longer."""

    queue: Histogram
    first_token: Histogram
    inter_token: Histogram
    whole: Histogram
    prompt: Counter
    cached: Counter
    output: Counter
    requests: dict[str, Counter] = field(default_factory=dict)
    """By outcome."""


class Metrics(Observer):
    """Counts calls and happenings into a registry of its own, so that two servers do not share figures."""

    def __init__(self, base: Base) -> None:
        self.registry = CollectorRegistry()
        self._names = Bounded((OTHER, OTHER))
        self._known: dict[tuple[str, str], _Series] = {}
        self._streams: dict[str, _Series] = {}
        self._about_calls()
        self._about_adapters()
        about = ("repo", "digest")
        shown = Gauge("hotshoe_base", "Which base this server has; always 1.", about, registry=self.registry)
        shown.labels(base.repo, base.digest).set(1)

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """Show what `read` says whenever Prometheus asks; called in another thread, so it must be quick."""
        Gauge(f"hotshoe_{name}", help_text, registry=self.registry).set_function(read)

    def on_begin(self, call: Call) -> None:
        self._running.inc()

    def on_resolved(self, call: Call) -> None:
        self._streams[call.id] = self._series(self._who(call))

    def on_tokens(self, call: Call, tokens: int, gap_seconds: float) -> None:
        stream = self._streams[call.id]
        (stream.first_token if call.chunks == 1 else stream.inter_token).observe(gap_seconds)
        stream.output.inc(tokens)

    def on_end(self, call: Call) -> None:
        who = self._who(call)
        series = self._streams.pop(call.id, None) or self._series(who)
        self._running.dec()
        if call.resolved is not None:
            series.queue.observe(call.queue_ms / 1000)
        if call.outcome not in series.requests:
            series.requests[call.outcome] = self._requests.labels(*who, call.outcome)
        series.requests[call.outcome].inc()
        series.whole.observe(call.seconds)
        series.prompt.inc(call.prompt_tokens)
        series.cached.inc(call.cached_tokens)

    def on_refusal(self, method: str, reason: str) -> None:
        """A listener of refusals."""
        self._refusals.labels(method, reason).inc()

    def on_happening(self, happening: Happening) -> None:
        """A reader for the journal."""
        match happening.what:
            case What.LOADED:
                self._loads.labels("OK").inc()
                self._load_seconds.observe(happening.seconds)
            case What.LOAD_FAILED:
                self._loads.labels(happening.reason).inc()
            case What.EVICTED | What.RETIRED:
                self._unloads.labels(happening.what.value).inc()
            case What.MOVED:
                self._swaps.labels("OK").inc()
            case What.STUCK:
                self._swaps.labels(happening.reason).inc()

    def _about_calls(self) -> None:
        to = self.registry
        self._running = Gauge("hotshoe_requests_running", "Requests that have not ended yet.", registry=to)
        self._requests = Counter(
            "hotshoe_requests", "Requests that ended, by how: OK or a reason.", (*WHO, "outcome"), registry=to
        )
        self._refusals = Counter(
            "hotshoe_refusals",
            "Calls that ended before they were requests, by method and reason.",
            ("method", "reason"),
            registry=to,
        )
        self._tokens = Counter(
            "hotshoe_tokens", "Tokens: prompt (cached among them) and output.", (*WHO, "kind"), registry=to
        )
        self._queue = Histogram(
            "hotshoe_queue_seconds",
            "In line for a place in the engine.",
            ("tenant",),
            buckets=FIRST_TOKEN_SECONDS,
            registry=to,
        )
        self._first_token = Histogram(
            "hotshoe_first_token_seconds",
            "From a request's arrival to its first output.",
            WHO,
            buckets=FIRST_TOKEN_SECONDS,
            registry=to,
        )
        self._inter_token = Histogram(
            "hotshoe_inter_token_seconds",
            "Between two pieces of output of one request.",
            WHO,
            buckets=INTER_TOKEN_SECONDS,
            registry=to,
        )
        self._whole = Histogram(
            "hotshoe_request_seconds",
            "From a request's arrival to its end.",
            WHO,
            buckets=WHOLE_SECONDS,
            registry=to,
        )

    def _about_adapters(self) -> None:
        to = self.registry
        self._loads = Counter(
            "hotshoe_adapter_loads", "Loads of adapters, by how they ended.", ("outcome",), registry=to
        )
        self._load_seconds = Histogram(
            "hotshoe_adapter_load_seconds",
            "Fetching, verifying and loading an adapter.",
            buckets=LOAD_SECONDS,
            registry=to,
        )
        self._unloads = Counter(
            "hotshoe_adapter_unloads",
            "Adapters unloaded: evicted for another one, or retired as no alias wants them.",
            ("why",),
            registry=to,
        )
        self._swaps = Counter(
            "hotshoe_alias_swaps",
            "Moved aliases that took effect (OK), or could not, by reason.",
            ("outcome",),
            registry=to,
        )
        # From 0, so that the first one counts: Prometheus cannot tell that a series grew to its first value.
        self._loads.labels("OK")
        self._swaps.labels("OK")
        for what in (What.EVICTED, What.RETIRED):
            self._unloads.labels(what.value)

    def _series(self, who: tuple[str, str]) -> _Series:
        known = self._known.get(who)
        if known is None:
            known = self._known[who] = _Series(
                queue=self._queue.labels(who[0]),
                first_token=self._first_token.labels(*who),
                inter_token=self._inter_token.labels(*who),
                whole=self._whole.labels(*who),
                prompt=self._tokens.labels(*who, "prompt"),
                cached=self._tokens.labels(*who, "cached"),
                output=self._tokens.labels(*who, "output"),
            )
        return known

    def _who(self, call: Call) -> tuple[str, str]:
        # Only names of adapters that exist get this far, so that nobody makes labels up.
        return self._names.of((call.origin.tenant, call.resolved.adapter if call.resolved else ""))
