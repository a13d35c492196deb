"""The manifest: canonical bytes, and a reader that trusts nobody."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotshoe.adapter.errors import Tampered
from hotshoe.adapter.manifest import MAX_MANIFEST_BYTES, Base, FileEntry, Manifest

SHA = "ab" * 32

hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
texts = st.text(st.characters(codec="utf-8"), max_size=30)
finite = st.floats(allow_nan=False, allow_infinity=False)
paths = st.from_regex(r"[a-z][a-z0-9_]{0,8}(/[a-z][a-z0-9_]{0,8}){0,2}", fullmatch=True)
files = st.lists(st.builds(FileEntry, paths, st.integers(0, 2**50), hexes), unique_by=lambda f: f.path)
plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
manifests = st.builds(
    Manifest,
    adapter=texts,
    base=st.builds(Base, texts, texts, hexes),
    rank=st.integers(0, 512),
    alpha=finite,
    targets=st.lists(texts, max_size=4).map(lambda names: tuple(sorted(names))),
    files=files.map(lambda each: tuple(sorted(each))),
    training=st.dictionaries(texts, plain_json, max_size=4),
    metrics=st.dictionaries(texts, finite, max_size=4),
    parent=st.none() | texts,
)


@given(manifests)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    read = Manifest.parse(manifest.canonical())
    assert read == manifest
    assert read.sha256 == manifest.sha256


def test_the_order_of_targets_and_files_changes_nothing() -> None:
    a, b = FileEntry("a", 1, SHA), FileEntry("b", 2, SHA)
    one = _manifest(files=(a, b), targets=("k_proj", "q_proj"))
    other = _manifest(files=(b, a), targets=("q_proj", "k_proj"))
    assert one.canonical() == other.canonical()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_tampered(data: bytes) -> None:
    with pytest.raises(Tampered):
        Manifest.parse(data)


@given(st.data())
def test_a_manifest_with_one_field_of_any_other_json_is_read_or_tampered(data: st.DataObject) -> None:
    raw = json.loads(_manifest().canonical())
    raw[data.draw(st.sampled_from(sorted(raw)))] = data.draw(plain_json)
    try:
        read = Manifest.parse(json.dumps(raw).encode())
    except Tampered:
        return
    assert Manifest.parse(read.canonical()) == read


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../up", "a/../../b", "a\\b", "C:/x", "a/./b", "a//b", "a/", ".", "a\0b", "c:x"),
        *("a\x1b[31mb", "a\nb", "a\u202eb", "x" * 256),
    ],
)
def test_a_path_that_could_leave_the_folder_is_tampered(path: str) -> None:
    with pytest.raises(Tampered, match="plain relative path"):
        Manifest.parse(_manifest(files=(FileEntry(path, 1, SHA),)).canonical())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "upgrade hotshoe"),
        ({"rank": -1}, "whole number"),
        ({"rank": True}, "whole number"),
        ({"rank": 8.0}, "whole number"),
        ({"rank": 2**63}, "whole number"),
        ({"alpha": 10**400}, "too large"),
        ({"metrics": {"loss": 10**400}}, "too large"),
        ({"alpha": "16"}, "finite number"),
        ({"metrics": {"loss": None}}, "finite number"),
        ({"metrics": []}, "object"),
        ({"base": None}, "not readable"),
        ({"files": [{"path": "a", "size": 1, "sha256": "short"}]}, "64 hex digits"),
        ({"files": [{"path": "a", "size": -1, "sha256": SHA}]}, "whole number"),
        ({"targets": [1]}, "expected text"),
        ({"targets": "q_proj"}, "expected an array"),
        ({"files": {}}, "expected an array"),
        ({"training": {"note": "\ud800"}}, "surrogates"),
        ({"parent": 3}, "expected text"),
    ],
)
def test_a_field_that_makes_no_sense_is_tampered_and_named(change: dict[str, Any], says: str) -> None:
    raw = json.loads(_manifest().canonical()) | change
    with pytest.raises(Tampered, match=says):
        Manifest.parse(json.dumps(raw).encode())


def test_every_field_is_required() -> None:
    whole = json.loads(_manifest().canonical())
    for name in whole:
        raw = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(Tampered, match=name):
            Manifest.parse(json.dumps(raw).encode())


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_tampered(constant: str) -> None:
    data = _manifest(alpha=12345.5).canonical().replace(b"12345.5", constant.encode())
    with pytest.raises(Tampered):
        Manifest.parse(data)


def test_a_free_field_that_is_not_finite_is_tampered() -> None:
    data = _manifest(training={"loss": 12345.5}).canonical().replace(b"12345.5", b"1e999")
    with pytest.raises(Tampered):
        Manifest.parse(data)


def test_a_number_that_is_not_finite_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        _manifest(metrics={"loss": math.nan}).canonical()


@pytest.mark.parametrize(("one", "other"), [("Weights", "weights"), ("caf\u00e9", "cafe\u0301")])
def test_paths_that_some_systems_take_for_the_same_are_tampered(one: str, other: str) -> None:
    twice = (FileEntry(one, 1, SHA), FileEntry(other, 1, SHA))
    with pytest.raises(Tampered, match="twice"):
        Manifest.parse(_manifest(files=twice).canonical())


def test_a_manifest_over_the_size_limit_is_not_even_read() -> None:
    with pytest.raises(Tampered, match="over the limit"):
        Manifest.parse(b" " * (MAX_MANIFEST_BYTES + 1))


def test_a_manifest_nested_without_end_is_tampered() -> None:
    with pytest.raises(Tampered):
        Manifest.parse(b'{"schema":' + b"[" * 200_000)


def _manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "adapter": "acme/support",
        "base": Base("org/model", "", SHA),
        "rank": 8,
        "alpha": 16.0,
        "targets": ("q_proj",),
        "files": (FileEntry("adapter_model.safetensors", 10, SHA),),
    }
    return Manifest(**(fields | changes))
