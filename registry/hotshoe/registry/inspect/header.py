"""The header of a safetensors file, read without trust and without torch.

Format: 8 bytes little-endian length, that many bytes of JSON, then the tensors' bytes without holes
(https://huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from hotshoe.registry.inspect.findings import Malformed, error
from hotshoe.registry.inspect.folder import MAX_BYTES, WEIGHTS_FILE, open_regular
from hotshoe.registry.inspect.strict_json import parse_object

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
MAX_NAME_CHARACTERS = 256

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor's place: dtype by its safetensors name; begin and end are absolute bytes of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A whole and consistent header: names are unique, the tensors fill the file without hole or overlap."""

    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read and check the header; raise Malformed for what is not a safetensors file through and through."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES[WEIGHTS_FILE]:
            _refuse(path.name, "OVERSIZED", f"has {size} bytes, over the limit of {MAX_BYTES[WEIGHTS_FILE]}")
        start, raw = _raw(file, path.name, size)
    metadata = _metadata(path.name, raw.pop("__metadata__", {}))
    if len(raw) > MAX_TENSORS:
        _refuse(path.name, "BAD_HEADER", f"lists {len(raw)} tensors, over the limit of {MAX_TENSORS}")
    tensors = [_tensor(name, entry, start) for name, entry in raw.items()]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    _refuse_holes(path.name, tensors, start, size)
    return Header(tuple(tensors), metadata)


def _raw(file: BinaryIO, name: str, size: int) -> tuple[int, dict[str, Any]]:
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or length > size - 8:
        _refuse(name, "TRUNCATED", f"is cut off: {size} bytes do not hold the header it announces")
    if length > MAX_HEADER_BYTES:
        _refuse(
            name, "BAD_HEADER", f"announces a header of {length} bytes, over the limit of {MAX_HEADER_BYTES}"
        )
    data = file.read(length)
    if not data.startswith(b"{"):
        _refuse(name, "BAD_HEADER", "is no safetensors file: its header is no JSON object")
    try:
        return 8 + length, parse_object(data)
    except ValueError as failure:
        _refuse(name, "BAD_HEADER", f"has a header that is not valid: {failure}")


def _metadata(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        _refuse(name, "BAD_HEADER", "has metadata that is no map of text to text")
    return value


def _tensor(name: str, entry: object, start: int) -> Tensor:
    if not name.isprintable() or not 0 < len(name) <= MAX_NAME_CHARACTERS:
        _refuse(name, "BAD_HEADER", "is no printable tensor name of at most 256 characters")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(name, "BAD_HEADER", "is not described by exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        _refuse(name, "BAD_HEADER", f"has a dtype that nobody knows: {str(dtype)[:40]!r}")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        _refuse(name, "BAD_HEADER", "has a shape that is no list of at most 8 whole numbers")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        _refuse(name, "BAD_HEADER", "has data_offsets that are no pair of whole numbers")
    begin, end = offsets
    if end - begin != prod(shape) * ITEM_BYTES[dtype]:
        _refuse(name, "BAD_HEADER", f"has {end - begin} bytes, which is not what {dtype} of that shape takes")
    return Tensor(name, dtype, tuple(shape), start + begin, start + end)


def _refuse_holes(name: str, tensors: list[Tensor], start: int, size: int) -> None:
    # A hole is a place to hide bytes, an overlap makes one tensor's check say nothing of the other.
    for before, after in pairwise(tensors):
        if before.end != after.begin:
            _refuse(after.name, "BAD_HEADER", f"does not begin where {before.name[:80]} ends")
    if tensors and tensors[0].begin != start:
        _refuse(tensors[0].name, "BAD_HEADER", "does not begin where the header ends")
    end = tensors[-1].end if tensors else start
    if end > size:
        _refuse(name, "TRUNCATED", f"is cut off: it has {size} bytes, its header describes {end}")
    if end < size:
        _refuse(name, "BAD_HEADER", f"has {size - end} bytes after its last tensor")


def _whole_numbers(value: object) -> bool:
    # 2**63 keeps every product and sum of these in reach of any reader.
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**63 for item in value
    )


def _refuse(subject: str, code: str, message: str) -> NoReturn:
    raise Malformed(error(code, subject, message, "save the adapter again, or copy the file again"))
