"""Where rows come from: JSONL, CSV, Parquet, a folder of those, or a data set on the Hub at a revision.

Every raw row knows its place, so that whatever is wrong with it can be said with file and line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import InvalidData

HUB = "hub:"
_HUB_NAME = re.compile(r"hub:(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w.-]+)(?::(?P<split>\w+))?")


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row before it is understood: its place, its value, and why that is none to be used."""

    where: str
    value: Any = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """All raw rows of a place in their order; sha256 is over the bytes they were read from."""

    rows: tuple[RawRow, ...]
    sha256: str


def read_source(place: Path | str) -> Source:
    """Read every row of a file, a folder or `hub:org/name@revision[:split]`, or raise InvalidData."""
    if isinstance(place, str):
        return _read_hub(place)
    if place.is_dir():
        return _read_folder(place)
    data = place.read_bytes()
    return Source(tuple(_rows_of(place, data)), hashlib.sha256(data).hexdigest())


def is_hub(name: str) -> bool:
    return name.startswith(HUB)


def check_hub(name: str) -> str:
    """The name itself; raise ValueError where it pins no revision, since data that moves is no data."""
    if not _HUB_NAME.fullmatch(name):
        raise ValueError(f"{name!r} must be hub:org/name@revision, with :split after it if not train")
    return name


def _read_folder(folder: Path) -> Source:
    files = sorted(path for path in folder.rglob("*") if path.suffix in _READERS and path.is_file())
    if not files:
        raise InvalidData(f"{folder} holds no {', '.join(sorted(_READERS))} files")
    rows: list[RawRow] = []
    digest = hashlib.sha256()
    for file in files:
        data = file.read_bytes()
        digest.update(f"{file.relative_to(folder).as_posix()}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        rows += _rows_of(file, data)
    return Source(tuple(rows), digest.hexdigest())


def _rows_of(path: Path, data: bytes) -> Iterator[RawRow]:
    reader = _READERS.get(path.suffix)
    if reader is None:
        known, kind = ", ".join(sorted(_READERS)), path.suffix or "a file without suffix"
        raise InvalidData(f"{path.name}: rows are read from {known}, not from {kind}")
    return reader(path.name, data)


def _read_jsonl(name: str, data: bytes) -> Iterator[RawRow]:
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            yield RawRow(where, json.loads(line.decode("utf-8")))
        except UnicodeDecodeError as error:
            yield RawRow(
                where, line.decode("utf-8", "replace"), f"not UTF-8 at byte {error.start} of the line"
            )
        except (ValueError, RecursionError) as error:
            yield RawRow(where, line.decode("utf-8"), f"not JSON: {error}")


def _read_csv(name: str, data: bytes) -> Iterator[RawRow]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidData(f"{name} is not UTF-8 at byte {error.start}: save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        begin = reader.line_num + 1
        for cells in reader:
            where, begin = f"{name}:{begin}", reader.line_num + 1
            if len(cells) != len(header):
                yield RawRow(where, cells, f"{len(cells)} cells under a header of {len(header)}")
            else:
                # A cell cannot be absent, so an empty one is.
                yield RawRow(where, {key: cell for key, cell in zip(header, cells, strict=True) if cell})
    except csv.Error as error:
        yield RawRow(f"{name}:{reader.line_num}", fault=f"not CSV: {error}; nothing after it was read")


def _read_parquet(name: str, data: bytes) -> Iterator[RawRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        # A damaged file is an OSError to Arrow; text in it that is no UTF-8 is found only row by row.
        raise InvalidData(f"{name} is not Parquet, or is damaged: {error}") from None
    for number, row in enumerate(rows, start=1):
        yield RawRow(f"{name} row {number}", {key: value for key, value in row.items() if value is not None})


def _read_hub(name: str) -> Source:
    import datasets

    found = _HUB_NAME.fullmatch(name)
    if found is None:
        raise InvalidData(f"{name!r} must be hub:org/name@revision[:split]")
    split = found["split"] or "train"
    try:
        rows = datasets.load_dataset(found["repo"], revision=found["revision"], split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise InvalidData(f"{name} could not be read: {error}") from error
    values = [{key: value for key, value in row.items() if value is not None} for row in rows]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
    short = found["repo"].rpartition("/")[2]
    return Source(tuple(RawRow(f"{short} row {n}", value) for n, value in enumerate(values, start=1)), digest)


_READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
