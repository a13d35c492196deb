"""Calls that end before they are requests are counted and logged all the same."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.serving import Served, echo_server

from hotshoe.serve.logs import logging_to_stderr
from hotshoe.serve.tenants import key_hash
from hotshoe.v1 import admin_pb2, admin_pb2_grpc, inference_pb2_grpc
from hotshoe.v1 import inference_pb2 as pb

SECRET = "a prompt that is nobody's business"
ASKED = pb.Generation(text=SECRET)
NO_SENSE = pb.Generation(text=SECRET, adapter="no such thing")


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    """The code that a call ends with, and the server's name for it."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        await (anext(aiter(call)) if hasattr(call, "__aiter__") else call)
    return await call.code(), dict(await call.trailing_metadata())["x-request-id"]


def counts(served: Served) -> dict[tuple[str, str], float]:
    """Refusals so far by method and reason."""
    return {
        (sample.labels["method"], sample.labels["reason"]): sample.value
        for family in served.telemetry.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "hotshoe_refusals_total"
    }


async def test_what_is_no_request_yet_is_counted_by_method_and_reason_and_logged_by_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(f'[tenants.acme]\nkeys = ["{key_hash("hs_acme")}"]\n')
    nobody = [("authorization", "Bearer hs_nobody")]
    acme = [("authorization", "Bearer hs_acme")]
    with logging_to_stderr(as_json=True, level="info"):
        async with (
            echo_server(tmp_path, tenants=tenants) as served,
            grpc.aio.insecure_channel(served.address) as channel,
        ):
            stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)
            admin: admin_pb2_grpc.AdminAsyncStub = admin_pb2_grpc.AdminStub(channel)
            ended = {
                "Generate": await refusal(
                    stub.Generate(pb.GenerateRequest(generation=ASKED), metadata=nobody)
                ),
                "StreamGenerate": await refusal(
                    stub.StreamGenerate(pb.StreamGenerateRequest(generation=NO_SENSE), metadata=acme)
                ),
                "CountTokens": await refusal(
                    stub.CountTokens(pb.CountTokensRequest(generation=ASKED), metadata=nobody)
                ),
                "ListAdapters": await refusal(
                    stub.ListAdapters(pb.ListAdaptersRequest(page_size=-1), metadata=acme)
                ),
                "Status": await refusal(admin.Status(admin_pb2.StatusRequest(), metadata=acme)),
                "Watch": await refusal(admin.Watch(admin_pb2.WatchRequest(), metadata=nobody)),
            }
            counted = counts(served)
    reasons = {
        "Generate": "UNAUTHENTICATED",
        "StreamGenerate": "INVALID_REFERENCE",
        "CountTokens": "UNAUTHENTICATED",
        "ListAdapters": "INVALID_REQUEST",
        "Status": "PERMISSION_DENIED",
        "Watch": "UNAUTHENTICATED",
    }
    assert counted == dict.fromkeys(reasons.items(), 1.0)
    written = capsys.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    told = {line["request_id"]: (line["method"], line["outcome"]) for line in lines if "method" in line}
    assert told == {name: (method, reasons[method]) for method, (_, name) in ended.items()}
    assert "nobody" not in written
    assert SECRET not in written
