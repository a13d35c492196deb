"""What Parquet files say of their own size, asked in a process of its own.

Asked about a column whose parts do not agree with each other, Arrow ends the process that asks.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import IO, Any

from hotshoe.adapter.errors import InvalidData

SECONDS = 120.0

_ARROW_ENDED_IT = {-signal.SIGABRT, -signal.SIGSEGV}

_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}
"""Bytes of a number, or of where a text ends, by Parquet's name of its type."""

_LENGTH_BYTES = 8
_LENGTH_AND_MAGIC = 8


class Footers:
    """Reads footers until the block ends. The process is there from the first one on, anew after it died."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Footers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def unpacked_bytes(self, name: str, data: bytes) -> int:
        """What the pages of a file unpack to, by the file's own word: texts and where each ends, and the
        numbers, of which one can stand for many.

        data: a whole file, whose end Arrow has found to be Parquet's. Raises ValueError for a footer of which
        Arrow can make no sense; InvalidData where this machine had no process or time to find out.
        """
        length = int.from_bytes(data[-_LENGTH_AND_MAGIC:-4], "little")
        answer = self._ask(name, data[-length - _LENGTH_AND_MAGIC :])
        if not answer:
            status = self._end()
            if status in _ARROW_ENDED_IT:
                raise ValueError("Arrow ends over its footer")
            raise _unweighed(name, f"ended with status {status} or took over {self._seconds:g} s")
        told = json.loads(answer)
        if "error" in told:
            raise ValueError(told["error"])
        return int(told["bytes"])

    def _ask(self, name: str, footer: bytes) -> bytes:
        try:
            process = self._process = self._process or subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise _unweighed(name, f"could not be started ({error.strerror})") from error
        assert process.stdin is not None
        assert process.stdout is not None
        patience = threading.Timer(self._seconds, process.kill)
        patience.start()
        try:
            process.stdin.write(len(footer).to_bytes(_LENGTH_BYTES, "little") + footer)
            process.stdin.flush()
            return process.stdout.readline()
        except BrokenPipeError:
            return b""
        finally:
            patience.cancel()

    def _end(self) -> int | None:
        """End the process if there is one; its status."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # It is gone, and what was to be written with it.
            process.stdin.close()
        process.stdout.close()
        return process.wait()


def _unweighed(name: str, why: str) -> InvalidData:
    return InvalidData(
        f"{name} could not be weighed: the process that reads its footer {why}: free memory and try again"
    )


def _answer(requests: IO[bytes]) -> None:
    import pyarrow
    from pyarrow import parquet

    while length := requests.read(_LENGTH_BYTES):
        footer = requests.read(int.from_bytes(length, "little"))
        told: dict[str, Any]
        try:
            told = {"bytes": _weigh(parquet.read_metadata(pyarrow.BufferReader(footer)))}
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            told = {"error": str(error)[:300]}
        print(json.dumps(told), flush=True)


def _weigh(about: Any) -> int:
    groups = (about.row_group(index) for index in range(about.num_row_groups))
    chunks = ((index, group.column(index)) for group in groups for index in range(group.num_columns))
    total = 0
    for index, chunk in chunks:
        if chunk.total_uncompressed_size < 0 or chunk.num_values < 0:
            raise ValueError("its footer speaks of less than nothing")
        width = _WIDTHS.get(chunk.physical_type) or about.schema.column(index).length
        total += chunk.total_uncompressed_size + chunk.num_values * width
    return total


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # That it ends is expected, and of no use to a debugger.
    _answer(sys.stdin.buffer)
