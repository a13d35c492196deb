"""The safetensors header, read from strangers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open
from support.lora import encode, tensors, with_header

from hotshoe.registry.inspect.findings import Malformed
from hotshoe.registry.inspect.header import read_header


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1] if shape is None else shape, "data_offsets": [begin, end]}


def made(header: object, body: bytes = b"\0" * 8) -> bytes:
    return with_header(header if isinstance(header, bytes) else json.dumps(header).encode(), body)


def test_a_whole_file_gives_each_tensor_its_place(tmp_path: Path) -> None:
    path, weights = tmp_path / "x.safetensors", tensors()
    path.write_bytes(encode(weights))
    header = read_header(path)
    assert {tensor.name: tensor.shape for tensor in header.tensors} == {
        n: w.shape for n, w in weights.items()
    }
    assert header.tensors[-1].end == path.stat().st_size
    assert header.metadata == {"format": "pt"}


@pytest.mark.parametrize(
    ("code", "data"),
    [
        pytest.param("TRUNCATED", b"", id="empty"),
        pytest.param("TRUNCATED", b"1234567", id="shorter than a length"),
        pytest.param("TRUNCATED", made({"a": entry(0, 4)})[:20], id="cut in the header"),
        pytest.param("TRUNCATED", made({"a": entry(0, 400, [100])}), id="cut in the data"),
        pytest.param("TRUNCATED", b"\xff" * 8 + b"{}", id="length beyond the file"),
        pytest.param("BAD_HEADER", made(b"[1, 2]"), id="no object"),
        pytest.param("BAD_HEADER", made(b" {}"), id="begins with a space"),
        pytest.param("BAD_HEADER", made(b"{" * 100_000), id="bottomless"),
        pytest.param("BAD_HEADER", made(b'{"a":' * 100_000), id="nested"),
        pytest.param("BAD_HEADER", made(b'{"\xff": 1}'), id="no UTF-8"),
        pytest.param(
            "BAD_HEADER",
            made(
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
            ),
            id="one name twice",
        ),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [2]), "b": entry(4, 8)}), id="overlap"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 4)}), id="bytes at the end that nobody owns"),
        pytest.param("BAD_HEADER", made({"a": entry(4, 8)}), id="bytes at the start that nobody owns"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 2, [1], "F16"), "b": entry(4, 8)}), id="a hole"),
        pytest.param("BAD_HEADER", made({"a": entry(8, 0, [2])}), id="backwards"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [3])}), id="size unlike shape"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [2**62, 4])}), id="a shape that overflows"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [-1, -2])}), id="negative sizes"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [True, 2])}), id="true as a number"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [2.0])}), id="fractions"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [1] * 9)}), id="nine dimensions"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [2], "F31")}), id="unknown dtype"),
        pytest.param("BAD_HEADER", made({"a": {"dtype": "F32"}}), id="half described"),
        pytest.param("BAD_HEADER", made({"a": entry(0, 8, [2]) | {"extra": 1}}), id="described too much"),
        pytest.param("BAD_HEADER", made({"a\n": entry(0, 8, [2])}), id="a line break in a name"),
        pytest.param("BAD_HEADER", made({"a" * 1000: entry(0, 8, [2])}), id="a name without end"),
        pytest.param("BAD_HEADER", made({"__metadata__": {"a": 1}}), id="metadata that is no text"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path, code: str, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(Malformed) as caught:
        read_header(path)
    assert caught.value.finding.code == code


def test_whatever_is_accepted_here_the_safetensors_library_accepts_too(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    whole = encode(tensors(targets=("q_proj",)))
    for position in range(0, 400, 3):
        for value in (0, 0x22, 0x31, 0xFF):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                header = read_header(path)
            except Malformed:
                continue
            try:
                with safe_open(path, framework="numpy") as file:
                    assert {tensor.name for tensor in header.tensors} == set(file.keys())
            except SafetensorError as error:
                pytest.fail(f"byte {position} as {value}: {error}")
