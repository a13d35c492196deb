"""OpenTelemetry spans of requests, in the trace that the caller began.

Source: W3C Trace Context; OpenTelemetry's semantic conventions for generative AI.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.serve.call import Call, Observer

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

FLUSH_SECONDS = 5


class Traces(Observer):
    """A span for every request, from its arrival to its end; prompts and answers are not in it."""

    def __init__(self, tracer: Tracer) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        self._spans: dict[str, Span] = {}

    def on_begin(self, call: Call) -> None:
        from opentelemetry.trace import SpanKind

        parent = self._propagator.extract(call.origin.trace)
        span = self._tracer.start_span("hotshoe.generate", context=parent, kind=SpanKind.SERVER)
        span.set_attribute("gen_ai.operation.name", "chat")
        span.set_attribute("hotshoe.request_id", call.id)
        if call.origin.tenant:
            span.set_attribute("hotshoe.tenant", call.origin.tenant)
        self._spans[call.id] = span

    def on_resolved(self, call: Call) -> None:
        span, resolved = self._spans[call.id], call.resolved
        if resolved is None:
            return
        span.set_attribute("gen_ai.request.model", resolved.base.repo)
        span.set_attribute("hotshoe.adapter", resolved.adapter)
        span.set_attribute("hotshoe.version", resolved.version)
        span.set_attribute("hotshoe.queue_ms", call.queue_ms)
        span.set_attribute("hotshoe.load_ms", call.load_ms)
        span.add_event("resolved")

    def on_tokens(self, call: Call, tokens: int, gap_seconds: float) -> None:
        if call.chunks == 1:
            self._spans[call.id].add_event("first token")

    def on_end(self, call: Call) -> None:
        from opentelemetry.trace import Status, StatusCode

        span = self._spans.pop(call.id)
        span.set_attribute("gen_ai.usage.input_tokens", call.prompt_tokens)
        span.set_attribute("gen_ai.usage.output_tokens", call.output_tokens)
        if call.finish_reason:
            span.set_attribute("gen_ai.response.finish_reasons", [call.finish_reason.value])
        if call.outcome != "OK":
            span.set_attribute("error.type", call.outcome)
            span.set_status(Status(StatusCode.ERROR, call.outcome))
        span.end()


@contextlib.contextmanager
def tracing() -> Iterator[Traces]:
    """Send spans where OTEL_EXPORTER_OTLP_ENDPOINT and its kin say, until the block ends; the rest then.

    Raises InvalidConfig where the packages for it are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InvalidConfig(
            f"traces need {error.name}, which is not installed: install hotshoe[traces], or serve without"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "hotshoe"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Traces(provider.get_tracer("hotshoe"))
    finally:
        provider.force_flush(FLUSH_SECONDS * 1000)
        provider.shutdown()
