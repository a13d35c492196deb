"""`hotshoe serve --check`: what serving would do, told without doing it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.adapters import SUPPORT, make_adapter
from support.lora import BASE_CONFIG
from typer.testing import CliRunner

from hotshoe.cli.main import app
from hotshoe.registry import fetch_base, open_registry

ADAPTER_BYTES = 2 * 464 * 512 * 4
"""Layers, widths of all linear ones, rank, a float: an adapter of rank 512 on BASE_CONFIG."""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A base without weights, so that no engine could be started, and acme/support v1 as its `prod`."""
    (tmp_path / "base").mkdir()
    config = {**BASE_CONFIG, "max_position_embeddings": 4096}
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        base = fetch_base(str(tmp_path / "base"))
        registry.publish(make_adapter(tmp_path / "adapter", 1), SUPPORT, base=base)
        registry.promote(SUPPORT, "prod", 1)
    return tmp_path


def check(shop: Path, *flags: str) -> tuple[int, str]:
    command = ["serve", "--check", "--base", str(shop / "base"), "--registry", str(shop / "registry")]
    command += ["--listen", "127.0.0.1:0", "--kv-cache-mib", "2", "--adapter-memory-mib", "32", *flags]
    environment = {"HOTSHOE_CACHE": str(shop / "cache"), "COLUMNS": "200", "NO_COLOR": "1"}
    result = CliRunner().invoke(app, command, env=environment)
    return result.exit_code, result.output


def rows(table: str) -> dict[str, str]:
    """What each row says, by its first column."""
    cells = ([cell.strip() for cell in line.split("│")] for line in table.splitlines() if "│" in line)
    return {first: " | ".join(rest) for first, *rest in cells}


def test_a_check_tells_slots_rank_and_memory(shop: Path) -> None:
    code, out = check(shop, "--slots", "6", "--resident", "40", "--max-rank", "512")
    told = rows(out)
    assert code == 0, out
    assert told["base"].startswith("base")
    assert told["slots"] == "6 of rank 512"
    assert told["adapters in memory"] == "32.0 MiB, at most 40 of them"
    assert told["an adapter takes"] == f"{ADAPTER_BYTES / 2**20:.1f} MiB at rank 512" == "1.8 MiB at rank 512"
    assert told["KV cache"] == "2.0 MiB, 8192 tokens"
    assert told["context"] == "4096 tokens"
    assert re.fullmatch(r"[\d,]+\.\d+ (MiB|GiB)", told["memory left here"])
    assert told["acme/support@v1"] == "4 | can be served"


def test_a_check_tells_which_adapters_would_be_refused(shop: Path) -> None:
    code, out = check(shop, "--max-rank", "1")
    assert code == 0, out
    assert rows(out)["acme/support@v1"] == "4 | its rank 4 is over 1: raise --max-rank"


def test_a_check_is_told_to_machines_in_bytes(shop: Path) -> None:
    code, out = check(shop, "--slots", "6", "--max-rank", "512", "--json")
    plan = json.loads(out)
    assert code == 0
    assert {name: plan["config"][name] for name in ("slots", "max_rank", "kv_cache_bytes")} == {
        "slots": 6,
        "max_rank": 512,
        "kv_cache_bytes": 2 << 20,
    }
    assert (plan["adapter_bytes"], plan["kv_bytes_per_token"]) == (ADAPTER_BYTES, 256)
    assert plan["memory_bytes"] > 1 << 20
    assert plan["forecasts"] == [{"version": "acme/support@v1", "rank": 4, "problem": ""}]


def test_what_would_be_refused_at_the_start_is_refused_by_a_check(shop: Path) -> None:
    code, out = check(shop, "--tenants", "/no/file")
    assert (code, "/no/file" in out) == (2, True)
