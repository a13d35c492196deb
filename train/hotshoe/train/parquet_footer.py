"""What a Parquet file says of its own size, read in a process of its own.

Asked about a column whose parts do not agree with each other, Arrow ends the process that asks.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

SECONDS = 120.0

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
"""Bytes of a number, or of where a text ends, by Parquet's name of its type."""

_LENGTH_AND_MAGIC = 8


def unpacked_bytes(data: bytes) -> int:
    """What the pages of a file unpack to, by the file's own word: texts and where each ends, and the numbers,
    of which one can stand for many.

    data: a whole file, whose end Arrow has found to be Parquet's. Raises ValueError for a footer that Arrow
    cannot make sense of.
    """
    length = int.from_bytes(data[-_LENGTH_AND_MAGIC:-4], "little")
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__],
            input=data[-length - _LENGTH_AND_MAGIC :],
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"its footer cannot be read in {SECONDS:g} seconds") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1].strip().removeprefix("what():").strip()[:300] if said else "Arrow ends over its footer"
        raise ValueError(why)
    return int(done.stdout)


def _weigh(about: Any) -> int:
    groups = (about.row_group(index) for index in range(about.num_row_groups))
    chunks = ((index, group.column(index)) for group in groups for index in range(group.num_columns))
    return sum(
        chunk.total_uncompressed_size
        + chunk.num_values * (_WIDTHS.get(chunk.physical_type) or about.schema.column(index).length)
        for index, chunk in chunks
    )


def _main() -> None:
    import pyarrow
    from pyarrow import parquet

    print(_weigh(parquet.read_metadata(pyarrow.BufferReader(sys.stdin.buffer.read()))))


if __name__ == "__main__":
    _main()
