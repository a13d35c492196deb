"""What README.md shows can be typed."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path
from typing import cast

import pytest
import typer.main
from support.serving import echo_server

from hotshoe.cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = sorted(
    {
        line.split("  #")[0].strip()
        for _, block in BLOCKS
        for line in block.splitlines()
        if line[:8] == "hotshoe "
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_one_that_hotshoe_takes(command: str) -> None:
    _, verb, *arguments = shlex.split(command)
    group = cast("typer.core.TyperGroup", typer.main.get_command(app))
    assert group.commands[verb].make_context(verb, arguments).info_name == verb


@pytest.mark.parametrize("config", re.findall(r"examples/\S+\.toml", README))
def test_each_config_is_there(config: str) -> None:
    assert (ROOT / config).is_file()


def test_each_make_target_is_there() -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert named
    assert set(named) <= set(targets)


def test_each_linked_page_is_there() -> None:
    pages = re.findall(r"\]\(([^)#:]+)\)", README)
    assert pages
    assert [page for page in pages if not (ROOT / page).exists()] == []


async def test_the_python_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (block for language, block in BLOCKS if language == "python")
    async with echo_server(tmp_path) as server:
        code = compile(example.replace("127.0.0.1:50051", server.address), "README.md", "exec")
        await asyncio.to_thread(exec, code, {})
    assert capsys.readouterr().out.startswith("acme/support@v1 ")
