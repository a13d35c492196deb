"""The examples of docs/calling.md, run against a server."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.serving import Served, echo_server

from hotshoe.serve.settings import read_settings
from hotshoe.serve.tenants_file import parse_tenants

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
