"""`hotshoe usage`: the books on the terminal, as CSV and as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hotshoe.adapter.manifest import Base
from hotshoe.cli.main import app
from hotshoe.serve.call import Call, Origin
from hotshoe.serve.ledger import Ledger
from hotshoe.wire.values import Resolved

BASE = Base("tiny", "", "0" * 64)


@pytest.fixture
def books(tmp_path: Path) -> str:
    path = tmp_path / "usage.sqlite"
    with Ledger(path).writing() as ledger:
        for tenant in ("acme", "globex, inc"):
            call = Call("1", Origin(tenant), [ledger])
            with call:
                call.prompt_tokens = 1200
                call.on_resolved(Resolved(BASE, "acme/support", "v3"), load_ms=0)
                call.on_tokens(34, cached_tokens=1000)
    return str(path)


def usage(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["usage", *arguments])
    return result.exit_code, result.output


def test_usage_is_a_table_for_people(books: str) -> None:
    code, out = usage("--ledger", books)
    assert code == 0
    assert "1,200" in out
    assert "globex, inc" in out


def test_usage_is_csv_for_spreadsheets(books: str) -> None:
    assert usage("--ledger", books, "--by", "tenant,version", "--csv") == (
        0,
        "tenant,version,requests,failed,prompt_tokens,cached_tokens,output_tokens\n"
        "acme,v3,1,0,1200,1000,34\n"
        '"globex, inc",v3,1,0,1200,1000,34\n',
    )


def test_usage_is_json_for_machines(books: str) -> None:
    code, out = usage("--ledger", books, "--by", "day", "--json")
    today = datetime.now(UTC).date().isoformat()
    assert (code, json.loads(out)) == (
        0,
        [
            {
                "day": today,
                "requests": 2,
                "failed": 0,
                "prompt_tokens": 2400,
                "cached_tokens": 2000,
                "output_tokens": 68,
            }
        ],
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "HOTSHOE_LEDGER"),
        (["--ledger", "/nowhere/usage.sqlite"], "no ledger"),
        (["--ledger", "{}", "--by", "colour"], "choose from"),
        (["--ledger", "{}", "--csv", "--json"], "exclude each other"),
        (["--ledger", "{}", "--since", "yesterday"], "yesterday"),
    ],
)
def test_wrong_use_is_told(books: str, arguments: list[str], says: str) -> None:
    code, out = usage(*(each.format(books) for each in arguments))
    assert code == 2
    assert says in out
