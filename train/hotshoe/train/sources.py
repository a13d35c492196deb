"""Where rows come from: JSONL, CSV, Parquet, a folder of those, or a data set on the Hub at a revision.

Every raw row knows its place, so that whatever is wrong with it can be said with file and line.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import InvalidData
from hotshoe.registry.inspect.strict_json import no_constant, once
from hotshoe.train.parquet_footer import Footers

MAX_ROW_BYTES = 16 << 20
"""A longer row is a fault: a book has a megabyte, and a file without line ends is none of rows."""

MAX_BYTES = 2 << 30
"""The most that a place's rows may weigh together: all of them are held in memory while they are checked."""

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


def read_source(place: Path | str, *, most: int = MAX_BYTES) -> Source:
    """Read every row of a file, a folder or `hub:org/name@revision[:split]`, or raise InvalidData.

    most: bytes that a file, or all files of a folder together, may have, packed or unpacked.
    """
    if isinstance(place, str):
        return _read_hub(place)
    with Footers() as footers:
        room = _Room(most, footers)
        if place.is_dir():
            return _read_folder(place, room)
        data = _bytes_of(place, room)
        return Source(tuple(_rows_of(place, data, room)), hashlib.sha256(data).hexdigest())


def is_hub(name: str) -> bool:
    return name.startswith(HUB)


def check_hub(name: str) -> str:
    """The name itself; raise ValueError where it pins no revision, since data that moves is no data."""
    if not _HUB_NAME.fullmatch(name):
        raise ValueError(f"{name!r} must be hub:org/name@revision, with :split after it if not train")
    return name


class _Room:
    """What is left of the bytes that a place's rows may have. footers: who says what Parquet unpacks to."""

    def __init__(self, most: int, footers: Footers) -> None:
        self._most, self._taken = most, 0
        self.footers = footers

    def check(self, name: str, does: str, count: int) -> None:
        """Raise InvalidData where `count` bytes more are too many."""
        if self._taken + count > self._most:
            before = f" with the {self._taken:,} before it" if self._taken else ""
            raise InvalidData(f"{name} {does}{before}, over {self._most:,}: train on fewer rows")

    def take(self, name: str, does: str, count: int) -> None:
        self.check(name, does, count)
        self._taken += count


def _read_folder(folder: Path, room: _Room) -> Source:
    try:
        files = sorted(path for path in folder.rglob("*") if path.suffix in _READERS and path.is_file())
    except OSError as error:
        raise InvalidData(f"{error.filename or folder} cannot be read: {error.strerror}") from error
    if not files:
        raise InvalidData(f"{folder} holds no {', '.join(sorted(_READERS))} files")
    rows: list[RawRow] = []
    digest = hashlib.sha256()
    for file in files:
        data = _bytes_of(file, room)
        digest.update(f"{file.relative_to(folder).as_posix()}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        rows += _rows_of(file, data, room)
    return Source(tuple(rows), digest.hexdigest())


def _bytes_of(path: Path, room: _Room) -> bytes:
    """A file's bytes, read once, so that the digest is of the rows that were understood."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            # A pipe would be waited for, a device has no end.
            raise InvalidData(f"{path} is no file: rows are read from files and folders")
        room.check(str(path), f"has {found.st_size:,} bytes", found.st_size)
        with path.open("rb") as file:
            # What is written to it meanwhile is not of these rows.
            return file.read(found.st_size)
    except OSError as error:
        raise InvalidData(f"{path} cannot be read: {error.strerror}") from error


def _rows_of(path: Path, data: bytes, room: _Room) -> Iterator[RawRow]:
    reader = _READERS.get(path.suffix)
    if reader is None:
        known, kind = ", ".join(sorted(_READERS)), path.suffix or "a file without suffix"
        raise InvalidData(f"{path.name}: rows are read from {known}, not from {kind}")
    return reader(path.name, data, room)


def _read_jsonl(name: str, data: bytes, room: _Room) -> Iterator[RawRow]:
    room.take(name, f"has {len(data):,} bytes", len(data))
    for number, line in enumerate(_lines(data.removeprefix(b"\xef\xbb\xbf")), start=1):
        where = f"{name}:{number}"
        if len(line) > MAX_ROW_BYTES:
            yield RawRow(where, fault=f"a line of {len(line):,} bytes, over {MAX_ROW_BYTES:,}")
        elif line.strip():
            yield _json_row(where, line)


def _lines(data: bytes) -> Iterator[bytes]:
    """The same as `data.split(b"\\n")`, one at a time."""
    start, end = 0, 0
    while end >= 0:
        end = data.find(b"\n", start)
        yield data[start:] if end < 0 else data[start:end]
        start = end + 1


def _json_row(where: str, line: bytes) -> RawRow:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return RawRow(where, line.decode("utf-8", "replace"), f"not UTF-8 at byte {error.start} of the line")
    try:
        # Of a key that stands there twice one value would be lost; NaN is no JSON.
        return RawRow(where, json.loads(text, object_pairs_hook=once, parse_constant=no_constant))
    except (ValueError, RecursionError) as error:
        return RawRow(where, text, f"not JSON: {error}")


def _read_csv(name: str, data: bytes, room: _Room) -> Iterator[RawRow]:
    room.take(name, f"has {len(data):,} bytes", len(data))
    csv.field_size_limit(MAX_ROW_BYTES)
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""), strict=True)
    try:
        header = next(reader, [])
        _refuse_twins(name, header)
        begin = reader.line_num + 1
        for cells in reader:
            where, begin = f"{name}:{begin}", reader.line_num + 1
            if (length := sum(map(len, cells))) > MAX_ROW_BYTES:
                yield RawRow(where, fault=f"a row of {length:,} characters, over {MAX_ROW_BYTES:,}")
            elif len(cells) != len(header):
                yield RawRow(where, cells, f"{len(cells)} cells under a header of {len(header)}")
            else:
                # A cell cannot be absent, so an empty one is.
                yield RawRow(where, {key: cell for key, cell in zip(header, cells, strict=True) if cell})
    except csv.Error as error:
        yield RawRow(f"{name}:{reader.line_num}", fault=f"not CSV: {error}; nothing after it was read")
    except UnicodeDecodeError:
        # The reader's own count begins anew with every piece that it decodes.
        line = next(number for number, line in enumerate(_lines(data), start=1) if not _is_utf8(line))
        raise InvalidData(f"{name}:{line} is not UTF-8: save the file as UTF-8") from None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _refuse_twins(name: str, columns: Sequence[str]) -> None:
    """Of two columns of one name the values of one would be lost."""
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise InvalidData(f"{name} has two columns {column[:80]!r}: rename one, or leave it out")
        seen.add(column)


def _read_parquet(name: str, data: bytes, room: _Room) -> Iterator[RawRow]:
    import pyarrow
    from pyarrow import parquet

    numbers = itertools.count(1)
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        _refuse_twins(name, file.schema_arrow.names)
        # Few bytes can stand for many rows: first by the file's own word, then with each text still once.
        unpacked = room.footers.unpacked_bytes(name, data)
        room.check(name, f"unpacks to {unpacked:,} bytes", unpacked)
        leaves = [file.schema.column(index).path for index in range(len(file.schema))]
        weighed = parquet.ParquetFile(pyarrow.BufferReader(data), read_dictionary=leaves)
        for batch in weighed.iter_batches():
            weight = sum(_weight(column) for column in batch.columns)
            room.take(name, f"unpacks to {weight:,} bytes", weight)
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                known = {key: value for key, value in row.items() if value is not None}
                yield RawRow(f"{name} row {next(numbers)}", known)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # A damaged file is an OSError to Arrow; text in it that is no UTF-8 is found only row by row.
        raise InvalidData(f"{name} is not Parquet, or is damaged: {error}") from None


def _weight(array: Any) -> int:
    """Bytes of an Arrow array once every text stands there as often as it is meant."""
    from pyarrow import compute, types

    kind = array.type
    if types.is_dictionary(kind):
        if types.is_primitive(kind.value_type) or types.is_fixed_size_binary(kind.value_type):
            return len(array) * int(kind.value_type.bit_width) // 8
        counted = array.indices.value_counts()
        lengths = compute.binary_length(array.dictionary.take(counted.field("values")))
        texts = compute.sum(compute.multiply(lengths, counted.field("counts"))).as_py() or 0
        return int(texts + array.indices.nbytes)
    if types.is_struct(kind):
        return sum(_weight(child) for child in array.flatten())
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return 8 * len(array) + _weight(array.flatten())
    if types.is_map(kind):
        return 8 * len(array) + _weight(array.keys) + _weight(array.items)
    return int(array.nbytes)


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
