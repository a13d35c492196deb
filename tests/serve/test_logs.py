"""The log: a line for every request, nothing in it that is nobody's business."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.serving import echo_server

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.adapter.manifest import Base
from hotshoe.serve.call import Call, Origin
from hotshoe.serve.logs import CallLog, logging_to_stderr
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc
from hotshoe.wire.values import Chat, Message, Prompt, Resolved, Text, Tokens

SECRET = "the quick brown prompt"
BASE = Base("tiny", "", "0" * 64)


def lines(written: str, logger: str = "hotshoe.calls") -> list[dict[str, Any]]:
    every = [json.loads(line) for line in written.splitlines()]
    return [line for line in every if line["logger"] == logger]


async def test_every_request_is_a_line_of_json_without_its_prompt_or_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = ("authorization", "Bearer hotshoe-secret-key")
    with logging_to_stderr(as_json=True, level="info"):
        async with echo_server(tmp_path) as served, grpc.aio.insecure_channel(served.address) as channel:
            stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)
            for adapter in ("acme/support", "acme/nobody"):
                request = pb.GenerateRequest(generation=pb.Generation(text=SECRET, adapter=adapter))
                call = stub.Generate(request, metadata=[key, ("x-request-id", "mine-7")])
                if adapter == "acme/support":
                    await call
                    trailers = dict(await call.trailing_metadata())
                else:
                    with pytest.raises(grpc.aio.AioRpcError):
                        await call
    written = capsys.readouterr().err
    answered, refused = lines(written)
    assert (answered["outcome"], answered["level"], answered["finish_reason"]) == ("OK", "info", "stop")
    assert (answered["adapter"], answered["version"]) == ("acme/support", "v1")
    assert answered["request_id"] == trailers["x-request-id"]
    assert answered["caller_request_id"] == "mine-7"
    assert answered["prompt_tokens"] == len(SECRET)
    assert answered["ms"] >= answered["first_token_ms"] > 0
    assert (refused["outcome"], refused["adapter"]) == ("ADAPTER_NOT_FOUND", "")
    assert SECRET not in written
    assert "secret-key" not in written


async def test_what_happens_on_behalf_of_a_request_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to_stderr(as_json=True, level="info"):
        async with echo_server(tmp_path) as served, grpc.aio.insecure_channel(served.address) as channel:
            stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)
            await stub.Generate(
                pb.GenerateRequest(generation=pb.Generation(text="hi", adapter="acme/support"))
            )
    written = capsys.readouterr().err
    (answered,) = lines(written)
    (loaded,) = (line for line in lines(written, "hotshoe.serve.stock") if "loaded" in line["message"])
    assert loaded["request_id"] == answered["request_id"]


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (Text("hi"), "hi"),
        (Chat((Message("system", "be brief"), Message("user", "hi"))), "system: be brief\nuser: hi"),
        (Tokens((1, 2)), "1 2"),
    ],
)
def test_prompts_are_written_only_where_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], prompt: Prompt, text: str
) -> None:
    with logging_to_stderr(as_json=True, level="info"):
        for with_prompts in (False, True):
            call = Call("1", None, [CallLog(with_prompts=with_prompts)])
            with call:
                call.prompt = prompt
    without, with_it = lines(capsys.readouterr().err)
    assert "prompt" not in without
    assert with_it["prompt"] == text


def test_people_get_a_line_they_can_read(capsys: pytest.CaptureFixture[str]) -> None:
    call = Call("request-1", Origin("acme"), [CallLog()])
    with logging_to_stderr(as_json=False, level="info"), call:
        call.on_resolved(Resolved(BASE, "acme/support", "v3"), load_ms=0)
    line = capsys.readouterr().err
    assert "INFO hotshoe.calls: OK acme/support@v3" in line
    assert "tenant=acme" in line


def test_an_error_that_nobody_foresaw_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to_stderr(as_json=True, level="warning"):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            logging.getLogger("hotshoe.test").exception("this failed")
        logging.getLogger("hotshoe.calls").info("not told at this level")
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert line["message"] == "this failed"
    assert "ZeroDivisionError" in line["error"]


def test_a_level_that_is_none_is_refused() -> None:
    with (
        pytest.raises(InvalidConfig, match="debug, info, warning, error"),
        logging_to_stderr(as_json=True, level="loud"),
    ):
        pass
