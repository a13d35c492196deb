"""`hotshoe bench` and `hotshoe top`."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console
from support.serving import Served, echo_server
from typer.testing import CliRunner

from hotshoe.adapter.manifest import Base
from hotshoe.cli.main import app
from hotshoe.cli.view import ROWS, view
from hotshoe.wire.admin import Occupancy, ServerStatus, Share, StuckAlias

STATUS = ServerStatus(
    base=Base("org/tiny", "", "0" * 64),
    server_version="0.1.0",
    started_at=datetime(2026, 11, 23, tzinfo=UTC),
    serving=True,
    draining=False,
    running=3,
    waiting=1,
    adapters=Occupancy(5, 1, 2, 8, 4, 5 << 20, 9 << 20),
    alias_age_seconds=0.2,
    stuck=(),
    tenants=(Share("acme", 3, 10, 1, 100, 1000, 12.0),),
    used_adapters=(Share("", requests=4), Share("acme/support", 3, 6, 1, 100, 1000, 12.0)),
)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with echo_server(tmp_path) as server:
        yield server


async def hotshoe(served: Served, *arguments: str) -> tuple[int, str]:
    environment = {"HOTSHOE_TARGET": served.address, "COLUMNS": "200", "NO_COLOR": "1"}
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments], env=environment)
    return result.exit_code, result.output


def shown(before: ServerStatus, now: ServerStatus, seconds: float = 2.0) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(view(before, now, seconds))
    return console.export_text()


async def test_bench_sends_to_all_listed_adapters_and_prints_percentiles(served: Served) -> None:
    code, out = await hotshoe(served, "bench", "--seconds", "0.3", "--output-tokens", "4")
    assert code == 0
    assert "first token" in out
    assert "p99" in out
    assert "tokens/s out" in out
    code, out = await hotshoe(
        served, "bench", "--seconds", "0.3", "--rate", "50", "--adapter", "globex/legal", "--adapter", "base",
        "--json",
    )  # fmt: skip
    report = json.loads(out)
    assert code == 0
    assert set(report["adapters"]) <= {"globex/legal", ""}
    assert report["first_token"]["p95_ms"] > 0


async def test_bench_sends_what_its_flags_say(served: Served) -> None:
    two = ("--adapter", "acme/support", "--adapter", "globex/legal", "--seconds", "0.5", "--json")
    code, out = await hotshoe(
        served, "bench", *two, "--zipf", "20", "--prompt-words", "2:3", "--output-tokens", "4:6"
    )
    report = json.loads(out)
    requests = report["outcomes"]["OK"]
    assert code == 0
    assert report["adapters"] == {"acme/support": requests}  # The second is wanted once in a million times.
    assert 2 * requests < report["prompt_tokens"] < 3 * 9 * requests  # Bytes here; 16 words have 31.
    assert 4 * requests <= report["output_tokens"] <= 6 * requests
    code, out = await hotshoe(served, "bench", *two, "--zipf", "0", "--output-tokens", "4")
    assert (code, set(json.loads(out)["adapters"])) == (0, {"acme/support", "globex/legal"})


async def test_bench_fails_where_nothing_is_answered(served: Served) -> None:
    code, out = await hotshoe(served, "bench", "--seconds", "0.1", "--adapter", "acme/nobody")
    assert code == 1
    assert "ADAPTER_NOT_FOUND" in out
    code, out = await hotshoe(served, "bench", "--prompt-words", "many")
    assert code == 2


async def test_top_shows_a_frame_where_there_is_no_terminal(served: Served) -> None:
    code, out = await hotshoe(served, "top", "--every", "0.1")
    assert code == 0
    assert "serving" in out
    assert "adapters loaded" in out
    assert "0 of 4 slots in use" in out


def test_a_view_tells_rates_between_two_looks() -> None:
    (acme,) = STATUS.tenants
    later = dataclasses.replace(acme, output_tokens=1300, requests=14)
    text = shown(STATUS, dataclasses.replace(STATUS, tenants=(later,)))
    assert "150.0 tokens/s" in text
    assert "3 running  1 waiting" in text
    assert "5 adapters loaded, 5.0 of 9 MiB, 2 of 4 slots in use, 1 loading" in text
    (row,) = (line for line in text.splitlines() if line.startswith("acme "))
    assert row.split() == ["acme", "│", "150.0", "│", "2.00", "│", "3", "│", "14", "│", "1", "│", "12", "ms"]


def test_a_view_puts_the_busiest_first_and_counts_the_rest() -> None:
    many = tuple(Share(f"t{number:02}", output_tokens=number) for number in range(ROWS + 3))
    text = shown(STATUS, dataclasses.replace(STATUS, tenants=many))
    assert text.index("t14") < text.index("t13")
    assert "t00" not in text
    assert "and 3 more" in text


def test_a_view_tells_what_is_wrong_and_prints_no_strangers_escapes() -> None:
    stuck = (StuckAlias("acme/support@prod", "UNSERVABLE", "rank \x1b[2J64"),)
    text = shown(STATUS, dataclasses.replace(STATUS, serving=False, stuck=stuck))
    assert "the engine does not answer" in text
    assert "acme/support@prod is stuck: UNSERVABLE" in text
    assert "\x1b" not in text
