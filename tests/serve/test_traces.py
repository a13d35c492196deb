"""Spans, as a collector gets them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from support.serving import echo_server

from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.service = ""

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - gRPC's name
        for resource in request.resource_spans:
            self.service = attributes(resource.resource)["service.name"]
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


def attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    collecting = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    add(collecting, server)
    port = server.add_insecure_port("127.0.0.1:0")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    server.start()
    yield collecting
    server.stop(None).wait()


async def test_a_request_is_a_span_in_its_callers_trace_with_adapter_and_version(
    tmp_path: Path, collector: Collector
) -> None:
    parent = ("traceparent", f"00-{TRACE}-{PARENT}-01")
    async with (
        echo_server(tmp_path, traces=True) as served,
        grpc.aio.insecure_channel(served.address) as channel,
    ):
        stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)
        request = pb.Generation(text="a secret prompt", adapter="acme/support")
        await stub.Generate(pb.GenerateRequest(generation=request), metadata=[parent])
        request = pb.Generation(text="hi", adapter="acme/nobody")
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Generate(pb.GenerateRequest(generation=request))
    answered, refused = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    assert collector.service == "hotshoe"
    assert (answered.trace_id.hex(), answered.parent_span_id.hex()) == (TRACE, PARENT)
    told = attributes(answered)
    assert (told["hotshoe.adapter"], told["hotshoe.version"]) == ("acme/support", "v1")
    assert told["gen_ai.usage.input_tokens"] == len("a secret prompt")
    assert told["gen_ai.usage.output_tokens"] > 0
    assert [event.name for event in answered.events] == ["resolved", "first token"]
    assert not any("secret" in str(value) for value in told.values())
    assert refused.trace_id.hex() != TRACE
    assert attributes(refused)["error.type"] == "ADAPTER_NOT_FOUND"
    assert refused.status.code == 2
