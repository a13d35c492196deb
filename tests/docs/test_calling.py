"""The examples of docs/calling.md, run against a server."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from support.serving import Served, echo_server

from hotshoe.serve.settings import read_settings
from hotshoe.serve.tenants_file import parse_tenants
from hotshoe.v1.inference_pb2 import GenerateRequest, GenerateResponse

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with echo_server(tmp_path_factory.mktemp("docs")) as server:
        yield server


@pytest.mark.parametrize("number", range(len(blocks("calling.md", "python"))))
async def test_an_example_runs(served: Served, number: int) -> None:
    code = blocks("calling.md", "python")[number].replace("127.0.0.1:50051", served.address)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()


def test_the_settings_and_the_tenants_of_the_page_are_read(tmp_path: Path) -> None:
    settings, tenants = blocks("serving.md", "toml")
    (tmp_path / "serve.toml").write_text(settings)
    assert read_settings(tmp_path / "serve.toml")["tenants"] == tmp_path / "tenants.toml"
    assert set(parse_tenants(tenants).by_name) == {"acme", "ops"}


def command(tool: str) -> list[str]:
    """The words of the page's one command for `tool`."""
    found = re.search(
        rf"^```\n({tool} .*?)^```$", (DOCS / "calling.md").read_text(), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    return shlex.split(found[1].replace("\\\n", " "))


async def test_what_grpcurl_is_told_to_send_is_answered(served: Served) -> None:
    words = command("grpcurl")
    *_, address, method = words
    assert address == "127.0.0.1:50051"
    scheme, value = words[words.index("-H") + 1].split(": ")
    request = json_format.ParseDict(json.loads(words[words.index("-d") + 1]), GenerateRequest())
    async with grpc.aio.insecure_channel(served.address) as channel:
        call = channel.unary_unary(
            f"/{method}",
            request_serializer=GenerateRequest.SerializeToString,
            response_deserializer=GenerateResponse.FromString,
        )
        answer = await call(request, metadata=((scheme, value),))
    assert answer.resolved.adapter == "acme/support"


def test_stubs_come_from_the_files_that_protoc_is_told(tmp_path: Path) -> None:
    # Generators for other languages are not here; what they are given is.
    own = [word for word in command("protoc")[1:] if not word.startswith("--go")]
    made = tmp_path / "made"
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_out={made}", *own]
    subprocess.run(protoc, cwd=DOCS.parent, check=True)
    assert b"StreamGenerate" in made.read_bytes()
