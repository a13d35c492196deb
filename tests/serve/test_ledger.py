"""The books: what was used is written down, once, soon, by whom."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.serving import echo_server

from hotshoe.adapter.errors import InvalidConfig, InvalidRequest, NotFound
from hotshoe.adapter.manifest import Base
from hotshoe.client import AsyncClient
from hotshoe.serve.call import Call, Origin
from hotshoe.serve.ledger import Ledger, open_ledger
from hotshoe.serve.usage import Used, used
from hotshoe.wire.values import Resolved, Sampling

BASE = Base("tiny", "", "0" * 64)
TODAY = datetime.now(UTC).date()


def spend(ledger: Ledger, tenant: str, adapter: str, version: str, tokens: int, fails: bool = False) -> None:
    """One call of 10 prompt tokens, 4 of them cached."""
    call = Call("1", Origin(tenant), [ledger])
    try:
        with call:
            call.prompt_tokens = 10
            call.on_resolved(Resolved(BASE, adapter, version), load_ms=0)
            for _ in range(tokens):
                call.on_tokens(1, cached_tokens=4)
            if fails:
                raise NotFound("gone")
    except NotFound:
        pass


def backdate(path: Path, days: int) -> None:
    with open_ledger(path) as database, database:
        database.execute("UPDATE usage SET day = ?", ((TODAY - timedelta(days=days)).isoformat(),))


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """Yesterday acme used 5 output tokens of acme/a v1; today 3 of v2, and globex 7 of the base."""
    path = tmp_path / "usage.sqlite"
    with Ledger(path).writing() as ledger:
        spend(ledger, "acme", "acme/a", "v1", 5)
    backdate(path, 1)
    with Ledger(path).writing() as ledger:
        spend(ledger, "acme", "acme/a", "v2", 2)
        spend(ledger, "acme", "acme/a", "v2", 1, fails=True)
        spend(ledger, "globex", "", "", 7)
    return path


def test_usage_is_summed_by_what_is_asked_for(books: Path) -> None:
    assert used(books, ["tenant"]) == [Used(("acme",), 3, 1, 30, 12, 8), Used(("globex",), 1, 0, 10, 4, 7)]
    assert used(books, ["adapter", "version"]) == [
        Used(("", ""), 1, 0, 10, 4, 7),
        Used(("acme/a", "v1"), 1, 0, 10, 4, 5),
        Used(("acme/a", "v2"), 2, 1, 20, 8, 3),
    ]
    assert [each.group[0] for each in used(books, ["day"])] == [str(TODAY - timedelta(days=1)), str(TODAY)]
    assert used(books, []) == [Used((), 4, 1, 40, 16, 15)]


def test_usage_is_told_of_the_days_asked_for(books: Path) -> None:
    assert [each.output_tokens for each in used(books, [], since=TODAY)] == [10]
    assert [each.output_tokens for each in used(books, [], until=TODAY - timedelta(days=1))] == [5]
    assert used(books, [], since=TODAY + timedelta(days=1)) == []


def test_a_column_that_is_none_is_refused(books: Path) -> None:
    with pytest.raises(InvalidRequest, match="choose from day, tenant, adapter, version"):
        used(books, ["tenant; DROP TABLE usage"])


def test_books_that_nobody_keeps_are_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="--ledger"):
        used(tmp_path / "none.sqlite", ["tenant"])
    assert not (tmp_path / "none.sqlite").exists()


@pytest.mark.parametrize("is_database", [True, False])
def test_a_file_that_is_something_else_is_refused_and_left_alone(tmp_path: Path, is_database: bool) -> None:
    path = tmp_path / "other"
    if is_database:
        database = sqlite3.connect(path)
        database.execute("CREATE TABLE precious (x)")
        database.close()
    else:
        path.write_bytes(b"not a database at all" * 100)
    before = path.read_bytes()
    with pytest.raises(InvalidConfig, match="name another file"), Ledger(path).writing():
        pass
    assert path.read_bytes() == before


def test_usage_that_cannot_be_written_now_is_written_later(
    books: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Ledger(books).writing() as ledger:
        hidden = books.rename(books.with_suffix(".hidden"))
        books.mkdir()
        spend(ledger, "acme", "acme/a", "v2", 100)
        time.sleep(1.2)
        books.rmdir()
        hidden.rename(books)
    assert "cannot be written" in caplog.text
    assert used(books, []) == [Used((), 5, 1, 50, 20, 115)]


def test_two_servers_write_into_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    with Ledger(path).writing() as one, Ledger(path).writing() as two:
        for _ in range(50):
            spend(one, "acme", "acme/a", "v1", 1)
            spend(two, "acme", "acme/a", "v1", 1)
            time.sleep(0.02)
    assert used(path, []) == [Used((), 100, 0, 1000, 400, 100)]


SPEND_FOR_EVER = """
import sys, time
from pathlib import Path
from hotshoe.adapter.manifest import Base
from hotshoe.serve.call import Call
from hotshoe.serve.ledger import Ledger
from hotshoe.wire.values import Resolved
with Ledger(Path(sys.argv[1])).writing() as ledger:
    call = Call("1", None, [ledger])
    with call:
        call.on_resolved(Resolved(Base("tiny", "", "0" * 64)), load_ms=0)
        while True:
            call.on_tokens(1, cached_tokens=0)
            print(time.monotonic(), call.output_tokens, flush=True)
            time.sleep(0.01)
"""


def test_a_killed_server_loses_at_most_a_second_of_an_answer_under_way(tmp_path: Path) -> None:
    path = tmp_path / "usage.sqlite"
    command = [sys.executable, "-c", SPEND_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = [process.stdout.readline().split() for _ in range(150)]
        process.send_signal(signal.SIGKILL)
        told += [line.split() for line in process.stdout]
    end = float(told[-1][0])
    spent = max(int(count) for at, count in told if float(at) < end - 1)
    assert used(path, [])[0].output_tokens >= spent


async def test_a_server_keeps_books_of_what_its_callers_used(tmp_path: Path) -> None:
    path = tmp_path / "books" / "usage.sqlite"
    async with echo_server(tmp_path, ledger=path) as served, AsyncClient(served.address) as client:
        for adapter in ("acme/support", "acme/support", None):
            await client.generate("hello", adapter=adapter, sampling=Sampling(max_tokens=3))
        with pytest.raises(NotFound):
            await client.generate("hello", adapter="acme/nobody")
    assert used(path, ["adapter", "version"]) == [
        Used(("", ""), 1, 0, 5, 0, 3),
        Used(("acme/support", "v1"), 2, 0, 10, 0, 6),
    ]
