from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from hotshoe.adapter.errors import InvalidData
from hotshoe.train.sources import RawRow, check_hub, read_source

ROWS = [{"input": "q", "output": "a"}, {"input": 'with "quotes"\nand lines', "output": "b, c"}]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["input", "output"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    write_csv(tmp_path / "rows.csv", ROWS)
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "rows.csv", "rows.parquet"):
        assert [row.value for row in read_source(tmp_path / name).rows] == ROWS, name


def test_a_csv_row_is_placed_by_its_first_line(tmp_path: Path) -> None:
    rows = read_source(write_csv(tmp_path / "rows.csv", [*ROWS, ROWS[0]])).rows
    assert [row.where for row in rows] == ["rows.csv:2", "rows.csv:3", "rows.csv:5"]


def test_a_csv_row_with_a_cell_too_many_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("input,output\nq,a,x\n")
    assert read_source(tmp_path / "rows.csv").rows == (
        RawRow("rows.csv:2", ["q", "a", "x"], "3 cells under a header of 2"),
    )


def test_a_folder_is_all_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_csv(tmp_path / "b.csv", ROWS[:1])
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.jsonl").write_text(json.dumps(ROWS[1]))
    (tmp_path / "notes.txt").write_text("not rows")
    assert [row.where for row in read_source(tmp_path).rows] == ["a.jsonl:1", "b.csv:2"]


def test_the_digest_of_a_folder_knows_names_and_bytes(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ROWS)
    first = read_source(tmp_path).sha256
    (tmp_path / "a.csv").rename(tmp_path / "b.csv")
    assert read_source(tmp_path).sha256 != first


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("rows.txt", b"", r"not from \.txt"),
        ("rows.csv", b"\xff", "not UTF-8"),
        ("rows.parquet", b"PAR1", "not Parquet"),
    ],
)
def test_what_cannot_be_read_at_all_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InvalidData, match=said):
        list(read_source(tmp_path / name).rows)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"holds no \.csv, \.jsonl, \.parquet files"):
        read_source(tmp_path)


def test_a_data_set_on_the_hub_is_read_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load_dataset(repo: str, *, revision: str, split: str) -> Any:
        asked.append((repo, revision, split))
        return datasets.Dataset.from_list([{"input": "q", "output": "a", "system": None}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    first, other = read_source("hub:acme/rows@v1"), read_source("hub:acme/rows@v2:test")
    assert asked == [("acme/rows", "v1", "train"), ("acme/rows", "v2", "test")]
    assert first.rows == (RawRow("rows row 1", {"input": "q", "output": "a"}),)
    assert first.sha256 == other.sha256


@pytest.mark.parametrize(
    "error", [OSError("no route"), ValueError("no split"), datasets.exceptions.DatasetNotFoundError("none")]
)
def test_a_data_set_that_the_hub_does_not_give_is_refused(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load_dataset(repo: str, **_: str) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InvalidData, match=f"hub:acme/rows@v1 could not be read: {error}"):
        read_source("hub:acme/rows@v1")


@pytest.mark.parametrize("name", ["hub:acme/rows", "hub:rows@v1", "hub:acme/rows@"])
def test_a_data_set_on_the_hub_names_its_revision(name: str) -> None:
    with pytest.raises(ValueError, match="must be hub:org/name@revision"):
        check_hub(name)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_csv_reader_fail(place: Path, data: bytes) -> None:
    (place / "any.csv").write_bytes(data)
    with contextlib.suppress(InvalidData):
        assert all(row.where.startswith("any.csv:") for row in read_source(place / "any.csv").rows)


@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_damage_makes_the_parquet_reader_fail(place: Path, changes: list[tuple[int, int]]) -> None:
    sound = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS * 5), sound)
    data = bytearray(sound.getvalue())
    for index, byte in changes:
        data[index % len(data)] = byte
    (place / "rows.parquet").write_bytes(data)
    with contextlib.suppress(InvalidData):
        read_source(place / "rows.parquet")
