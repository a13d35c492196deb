"""A footer is weighed in a process that may end over it: neither the run nor the next file minds."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pytest
from pyarrow import parquet

from hotshoe.adapter.errors import InvalidData
from hotshoe.train.parquet_footer import Footers, _weigh
from hotshoe.train.sources import read_source

ROWS = [{"input": "q", "output": "a"}, {"input": "r", "output": "b"}]

ASK_ARROW = """
import resource, sys
from pyarrow import parquet
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
parquet.read_metadata(sys.argv[1]).row_group(0).column(0)
"""


@pytest.fixture
def sound() -> bytes:
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
    return file.getvalue()


@pytest.fixture
def deadly(sound: bytes) -> bytes:
    # Whether a column may be null, in the schema: the column's own figures are of one that may.
    optional, required = b"\x25\x02\x18\x05input", b"\x25\x00\x18\x05input"
    assert sound.count(optional) == 1
    return sound.replace(optional, required)


@pytest.fixture
def footers() -> Iterator[Footers]:
    with Footers() as footers:
        yield footers


def test_a_file_says_what_it_unpacks_to(footers: Footers, sound: bytes) -> None:
    said = footers.unpacked_bytes("rows.parquet", sound)
    about = parquet.read_metadata(pyarrow.BufferReader(sound))
    packed = sum(about.row_group(0).column(index).total_uncompressed_size for index in range(2))
    assert said == packed + 4 * len(ROWS) * 2


def test_arrow_still_ends_a_process_over_it(deadly: bytes, tmp_path: Path) -> None:
    # Where this fails, Arrow has learned to refuse: then it needs no process of its own any more.
    (tmp_path / "rows.parquet").write_bytes(deadly)
    asked = subprocess.run(
        [sys.executable, "-c", ASK_ARROW, tmp_path / "rows.parquet"], capture_output=True, check=False
    )
    assert asked.returncode == -signal.SIGABRT


def test_a_footer_over_which_arrow_ends_is_refused_and_the_next_is_read(
    footers: Footers, sound: bytes, deadly: bytes
) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="Arrow ends over its footer"):
            footers.unpacked_bytes("bad.parquet", deadly)
        assert footers.unpacked_bytes("rows.parquet", sound) > 0


def test_the_file_is_named(deadly: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(deadly)
    with pytest.raises(InvalidData, match=r"rows.parquet is not Parquet, or is damaged: Arrow ends"):
        read_source(tmp_path / "rows.parquet")


def test_bytes_that_are_no_footer_are_a_value_error(footers: Footers, sound: bytes) -> None:
    with pytest.raises(ValueError, match="Parquet"):
        footers.unpacked_bytes("rows.parquet", b"no footer at all")
    assert footers.unpacked_bytes("rows.parquet", sound) > 0


def test_a_killed_process_is_no_fault_of_the_file(footers: Footers, sound: bytes) -> None:
    footers.unpacked_bytes("rows.parquet", sound)
    assert footers._process is not None
    os.kill(footers._process.pid, signal.SIGKILL)
    with pytest.raises(InvalidData, match=r"rows.parquet could not be weighed: .* status -9 .* try again"):
        footers.unpacked_bytes("rows.parquet", sound)
    assert footers.unpacked_bytes("rows.parquet", sound) > 0


def test_a_process_that_says_nothing_is_waited_for_only_so_long(sound: bytes) -> None:
    with Footers(seconds=0.01) as footers, pytest.raises(InvalidData, match="took over"):
        # Its own start takes longer than that.
        footers.unpacked_bytes("rows.parquet", sound)


def test_a_folder_needs_one_process_and_leaves_none(
    tmp_path: Path, sound: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    for number in range(5):
        (tmp_path / f"{number}.parquet").write_bytes(sound)
    assert [row.value for row in read_source(tmp_path).rows] == ROWS * 5
    assert [process.returncode for process in started] == [0]


@pytest.mark.parametrize(("size", "values"), [(-1, 1), (1, -1)])
def test_a_column_of_less_than_nothing_makes_no_room_for_others(size: int, values: int) -> None:
    chunk = SimpleNamespace(total_uncompressed_size=size, num_values=values, physical_type="INT64")
    group = SimpleNamespace(num_columns=1, column=lambda _: chunk)
    about = SimpleNamespace(num_row_groups=1, row_group=lambda _: group)
    with pytest.raises(ValueError, match="less than nothing"):
        _weigh(about)
