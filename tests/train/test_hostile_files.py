"""Files that are no rows or no config: each is refused with its place, soon, and in little memory."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from support.routing import config, rows, write

from hotshoe.adapter.errors import HotshoeError, InvalidConfig, InvalidData
from hotshoe.train import forms
from hotshoe.train.config import TrainConfig
from hotshoe.train.data import read_rows
from hotshoe.train.plan import plan
from hotshoe.train.sources import MAX_ROW_BYTES, read_source

GOOD = b'{"input": "q", "output": "a"}\n'


def nested(depth: int) -> bytes:
    return b'{"input": ' + b"[" * depth + b"]" * depth + b', "output": "a"}\n'


LINES: dict[str, tuple[bytes, str]] = {
    "NUL bytes": (b"\0" * 1000 + b"\n", "not JSON"),
    "NUL bytes in text": (b'{"input": "a\0b", "output": "a"}\n', "not JSON: Invalid control character"),
    "no UTF-8": (b'{"input": "\xff", "output": "a"}\n', "not UTF-8 at byte 11 of the line"),
    "UTF-16": ('{"input": "q"}\n'.encode("utf-16"), "not UTF-8"),
    "nested without end": (nested(100_000), "not JSON: maximum recursion depth"),
    "nested deeply": (nested(500), "input must be text, not a list"),
    "a number of 10,000 digits": (b'{"input": ' + b"9" * 10_000 + b"}\n", "not JSON: Exceeds the limit"),
    "NaN": (b'{"input": NaN, "output": "a"}\n', "not JSON: NaN is no number"),
    "a key twice": (b'{"input": "q", "output": "a", "output": "b"}\n', "key 'output' stands there twice"),
    "a key of a megabyte": (
        b'{"input": "q", "output": "a", "%s": 1}\n' % (b"k" * 1_000_000),
        "unknown key 'kkk",
    ),
    "many keys": (
        json.dumps({f"key {n}": n for n in range(100_000)}).encode() + b"\n",
        "has 'key 0', 'key 1'",
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_is_no_row_is_a_fault_of_few_words_and_its_neighbours_are_read(
    tmp_path: Path, name: str
) -> None:
    line, said = LINES[name]
    # What follows a line of UTF-16 begins with half of its line end.
    (tmp_path / "rows.jsonl").write_bytes(GOOD + line + b"\n" + GOOD)
    read = read_rows(tmp_path / "rows.jsonl", forms.example)
    assert read.good[0].where == "rows.jsonl:1"
    assert len(read.good) == 2
    assert read.faults[0].where == "rows.jsonl:2"
    assert said in read.faults[0].message
    assert len(read.faults[0].message) < 500


def test_what_cannot_even_be_written_down_does_not_stop_a_run_that_skips_it(
    tiny_base: Path, tmp_path: Path
) -> None:
    write(tmp_path / "train.jsonl", rows(1, 20))
    deepest = _deepest_that_json_reads()
    with (tmp_path / "train.jsonl").open("ab") as file:
        file.write(nested(deepest) + nested(100_000) + b"\xff\n" + b'{"input": NaN}\n')
    chosen = config(tiny_base, tmp_path, data={"train": "train.jsonl"})
    assert plan(chosen, skip_bad=True).data["train"]["skipped"] == 4
    rejects = [json.loads(line) for line in (tmp_path / "train.rejects.jsonl").read_text().splitlines()]
    assert [reject["where"] for reject in rejects] == [f"train.jsonl:{line}" for line in range(21, 25)]


def _deepest_that_json_reads() -> int:
    def reads(depth: int) -> bool:
        try:
            json.loads(nested(depth))
        except RecursionError:
            return False
        return True

    return next(depth for depth in range(990, 0, -10) if reads(depth))


def test_a_line_beyond_the_limit_is_told_and_costs_no_more_than_itself(tmp_path: Path) -> None:
    path, size = tmp_path / "rows.jsonl", 128 << 20
    with path.open("wb") as file:
        file.write(GOOD)
        # A hole of NUL bytes, that no disk has to hold.
        file.truncate(len(GOOD) + size)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + GOOD)
    code = (
        "import sys, resource\nfrom pathlib import Path\nfrom hotshoe.train import forms\n"
        "from hotshoe.train.data import read_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "read = read_rows(Path(sys.argv[1]), forms.example)\n"
        "print(len(read.good), read.faults[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    good, *said, kib = done.stdout.split()
    assert (good, " ".join(said)) == (
        "2",
        f"rows.jsonl:2: a line of {size:,} bytes, over {MAX_ROW_BYTES:,}",
    )
    assert int(kib) < 2.5 * size / 1024


def test_a_file_beyond_the_limit_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "rows.jsonl").open("wb") as file:
        file.truncate((1 << 20) + 1)
    with pytest.raises(InvalidData, match=r"rows\.jsonl has 1,048,577 bytes, over 1,048,576"):
        read_source(tmp_path / "rows.jsonl", most=1 << 20)


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, r"is no file: rows are read from files and folders"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), r"is no file"),
    "a link to itself": (lambda path: path.symlink_to(path), r"Too many levels of symbolic links"),
    "nothing": (lambda path: None, r"No such file"),
    "a folder in its place": (lambda path: path.mkdir(), r"holds no \.csv, \.jsonl, \.parquet files"),
}


@pytest.mark.parametrize("name", PLACES)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    make, said = PLACES[name]
    make(tmp_path / "rows.jsonl")
    with pytest.raises(InvalidData, match=said):
        read_source(tmp_path / "rows.jsonl")


def test_a_folder_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(GOOD)
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert [row.where for row in read_source(tmp_path).rows] == ["rows.jsonl:1"]


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.zip", "rows"])
def test_what_is_packed_is_not_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b\x08\0")
    with pytest.raises(InvalidData, match=r"rows are read from \.csv, \.jsonl, \.parquet, not from"):
        read_source(tmp_path / name)


def test_a_csv_of_a_hundred_thousand_columns_is_a_fault_of_few_words(tmp_path: Path) -> None:
    names = ",".join(f"column {number}" for number in range(100_000))
    (tmp_path / "rows.csv").write_text(f"{names}\n{names}\n")
    (fault,) = read_rows(tmp_path / "rows.csv", forms.example).faults
    assert fault.where == "rows.csv:2"
    assert fault.message.startswith("has 'column 0'")
    assert len(fault.message) < 500


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"input,output,output\nq,a,b\n", r"rows\.csv has two columns 'output'"),
        (b"input,output\nq,a\nq,\xff\n", r"rows\.csv:3 is not UTF-8"),
    ],
)
def test_a_csv_that_would_lose_something_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "rows.csv").write_bytes(data)
    with pytest.raises(InvalidData, match=said):
        read_source(tmp_path / "rows.csv")


def test_a_csv_with_a_quote_that_never_ends_is_told_where(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('input,output\nq,a\nq,"' + "x\n" * (MAX_ROW_BYTES // 2 + 10))
    *good, last = read_source(tmp_path / "rows.csv").rows
    assert [row.where for row in good] == ["rows.csv:2"]
    assert "nothing after it was read" in (last.fault or "")


def test_a_csv_cell_may_be_as_long_as_a_document(tmp_path: Path) -> None:
    text = "word " * 60_000
    (tmp_path / "rows.csv").write_text(f'text\n"{text}"\n')
    (row,) = read_source(tmp_path / "rows.csv").rows
    assert row.value == {"text": text}


def in_parquet(table: pyarrow.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file, **options)
    return file.getvalue()


def test_parquet_of_other_types_is_a_fault_of_each_row(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "input": [[{"deep": [1]}], [{"deep": [2]}]],
            "output": ["a", "b"],
        }
    )
    (tmp_path / "rows.parquet").write_bytes(in_parquet(table))
    faults = read_rows(tmp_path / "rows.parquet", forms.example).faults
    assert [str(fault) for fault in faults] == [
        f"rows.parquet row {number}: input must be text, not a list" for number in (1, 2)
    ]


@pytest.mark.parametrize("kind", [pyarrow.string(), pyarrow.large_string()], ids=str)
@pytest.mark.parametrize("nested", [False, True], ids=["a text", "texts in a list"])
@pytest.mark.parametrize("typed", [False, True], ids=["plain", "with Arrow's types"])
def test_few_bytes_of_parquet_fill_no_memory(
    tmp_path: Path, kind: pyarrow.DataType, nested: bool, typed: bool
) -> None:
    # A string of 32 KiB that stands in a dictionary once, and in 4,096 rows by its number.
    column = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 4096), pyarrow.array(["x" * (32 << 10)], kind)
    )
    if nested:
        column = pyarrow.ListArray.from_arrays([0, 4000, 4096], column)
    data = in_parquet(pyarrow.table({"text": column}), compression="zstd", store_schema=typed)
    assert len(data) < 1 << 12
    (tmp_path / "rows.parquet").write_bytes(data)
    kib, said = refused_within(tmp_path / "rows.parquet", most=64 << 20)
    assert said.startswith("rows.parquet unpacks to 134,")
    assert said.endswith("over 67,108,864: train on fewer rows")
    assert kib < 48 << 10


def refused_within(path: Path, most: int) -> tuple[int, str]:
    """The KiB that a process of its own grows by until it refuses the file, and what it says."""
    code = (
        "import sys, resource\nfrom pathlib import Path\nimport pyarrow.parquet\n"
        "from hotshoe.adapter.errors import InvalidData\nfrom hotshoe.train.sources import read_source\n"
        "import pyarrow.compute\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    read_source(Path(sys.argv[1]), most=int(sys.argv[2]))\n"
        "except InvalidData as error:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(most)], capture_output=True, text=True, check=True
    )
    kib, said = done.stdout.strip().split(" ", 1)
    return int(kib), said


def test_a_column_that_stands_in_a_dictionary_is_read_as_any_other(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "input": pyarrow.array(["q", None, "q"]).dictionary_encode(),
            "number": pyarrow.array([1, 2, 1]).dictionary_encode(),
        }
    )
    (tmp_path / "rows.parquet").write_bytes(in_parquet(table))
    assert [row.value for row in read_source(tmp_path / "rows.parquet").rows] == [
        {"input": "q", "number": 1},
        {"number": 2},
        {"input": "q", "number": 1},
    ]


@pytest.mark.parametrize(
    "column",
    [pyarrow.array(["y" * (30 << 20)]), pyarrow.array([[0] * (4 << 20)])],
    ids=["a long text", "a number in many places"],
)
def test_pages_of_parquet_that_are_too_large_together_are_not_unpacked(
    tmp_path: Path, column: pyarrow.Array
) -> None:
    table = pyarrow.table({f"column {number}": column for number in range(8)})
    (tmp_path / "rows.parquet").write_bytes(in_parquet(table, compression="zstd"))
    assert (tmp_path / "rows.parquet").stat().st_size < 32 << 10
    kib, said = refused_within(tmp_path / "rows.parquet", most=64 << 20)
    assert re.match(r"rows\.parquet unpacks to 2\d\d,\d+,\d+ bytes, over 67,108,864", said)
    assert kib < 16 << 10


def test_files_of_a_folder_have_one_limit_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD * 100)
    (tmp_path / "b.csv").write_bytes(b"input,output\n" + b"q,a\n" * 100)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert len(read_source(tmp_path, most=size).rows) == 200
    with pytest.raises(InvalidData, match=r"b\.csv has 413 bytes with the 3,000 before it, over 3,412"):
        read_source(tmp_path, most=size - 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_looked_into_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "rows.jsonl").write_bytes(GOOD)
    (tmp_path / "closed").chmod(0o600)
    try:
        with pytest.raises(InvalidData, match=r"cannot be read: Permission denied"):
            read_source(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_csv_row_is_bounded_and_not_only_each_of_its_cells(tmp_path: Path) -> None:
    cell = "x" * (MAX_ROW_BYTES // 4)
    (tmp_path / "rows.csv").write_text("a,b,c,d,e\n" + ",".join([cell] * 5) + "\n1,2,3,4,5\n")
    long, good = read_source(tmp_path / "rows.csv").rows
    assert (long.where, long.value) == ("rows.csv:2", None)
    assert long.fault == f"a row of {5 * len(cell):,} characters, over {MAX_ROW_BYTES:,}"
    assert good.fault is None


def test_the_second_of_two_hundred_thousand_columns_is_found_at_once(tmp_path: Path) -> None:
    names = ",".join(f"column {number}" for number in range(200_000))
    (tmp_path / "rows.csv").write_text(f"{names},column 199999\n")
    begun = time.monotonic()
    with pytest.raises(InvalidData, match="two columns 'column 199999'"):
        read_source(tmp_path / "rows.csv")
    assert time.monotonic() - begun < 20


def test_parquet_with_two_columns_of_a_name_is_refused(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 2, names=["text", "text"])
    (tmp_path / "rows.parquet").write_bytes(in_parquet(table))
    with pytest.raises(InvalidData, match="has two columns 'text'"):
        read_source(tmp_path / "rows.parquet")


CONFIGS: dict[str, tuple[bytes, str]] = {
    "nested without end": (b"a = " + b"[" * 100_000, "is not TOML"),
    "tables without end": (b"[" + b".".join([b"a"] * 20_000) + b"]\nb = 1\n", "is not"),
    "a number of 10,000 digits": (b"base = " + b"9" * 10_000, "is not TOML: Exceeds the limit"),
    "NUL bytes": (b"\0" * 100, "is not TOML"),
    "no UTF-8": (b"\xff", "is not readable"),
    "two megabytes": (b"#" * (2 << 20), "is not readable: it has 2,097,152 bytes"),
    "many unknown keys": (b"".join(b"key_%d = 1\n" % n for n in range(2_000)), "is not a training config"),
    "infinite steps": (b'base = "b"\ndata.train = "."\ntraining.epochs = inf\n', "training.epochs"),
    "more rows than anybody has": (
        b'base = "b"\ndata.train = "."\ntraining.batch_rows = 1000000000000\n',
        "training.batch_rows",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_none_is_refused_at_once(tmp_path: Path, name: str) -> None:
    data, said = CONFIGS[name]
    (tmp_path / "train.toml").write_bytes(data)
    begun = time.monotonic()
    with pytest.raises(InvalidConfig, match=said) as refused:
        TrainConfig.read(tmp_path / "train.toml")
    assert time.monotonic() - begun < 10
    assert len(refused.value.message) < 10_000


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ('train = "loop.jsonl"', r"data\.train: there is no file .*loop\.jsonl \(Too many levels"),
        (f'train = "{"x" * 10_000}"', r"data\.train: there is no file .*\(File name too long\)"),
        ('train = "a\\u0000b"', r"data\.train: there is no file .*\(embedded null byte\)"),
        ('train = "."\n[evaluation]\nschemas = {a = "pipe"}', r"evaluation\.schemas\.a: .*pipe is no file"),
        (
            'train = "."\n[evaluation]\nfunctions = {a = "pipe.py:f"}',
            r"evaluation\.functions\.a: .*pipe\.py is no file",
        ),
    ],
    ids=["a link to itself", "a long name", "a NUL byte", "a pipe of a schema", "a pipe of code"],
)
def test_a_place_that_is_none_is_refused_with_its_key(tmp_path: Path, tables: str, said: str) -> None:
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "train.toml").write_text(f'base = "b"\n[data]\n{tables}\n')
    with pytest.raises(InvalidConfig, match=said) as refused:
        TrainConfig.read(tmp_path / "train.toml")
    assert len(refused.value.message) < 1_000


def test_a_config_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.toml")
    with pytest.raises(InvalidConfig, match="is not readable: it is no file"):
        TrainConfig.read(tmp_path / "train.toml")


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 10_000])
def test_an_override_that_is_no_value_counts_as_text(tmp_path: Path, value: str) -> None:
    (tmp_path / "train.toml").write_text("")
    with pytest.raises(HotshoeError):
        TrainConfig.read(tmp_path / "train.toml", {"training.steps": value})
