"""An index that is damaged, lost, held up, or holds what Hotshoe never wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk, meddling

from hotshoe.adapter.errors import HotshoeError, InvalidRequest, RegistryUnavailable, Tampered
from hotshoe.registry import local_index, open_registry


def test_a_file_that_is_no_index_is_told_as_such(tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    (folder / "index.sqlite").write_bytes(b"this is not a database, it is a text " * 100)
    with pytest.raises(Tampered, match=r"not a database; restore index\.sqlite from a backup"):
        open_registry(folder)


@pytest.mark.parametrize("gone", [Path.unlink, lambda index: index.write_bytes(b"")])
def test_a_registry_that_lost_its_index_does_not_begin_anew(used: Desk, gone: Callable[[Path], Any]) -> None:
    used.registry.close()
    folder = used.folder / "registry"
    gone(folder / "index.sqlite")
    blobs = sorted((folder / "blobs").iterdir())
    with pytest.raises(Tampered, match=r"has lost its index\.sqlite"):
        open_registry(folder)
    assert sorted((folder / "blobs").iterdir()) == blobs


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE version SET summary = '{'",
        "UPDATE version SET summary = '[]'",
        "UPDATE event SET body = '{}'",
        "UPDATE event SET body = x'ff00'",
        "UPDATE event SET body = replace(body, 'promote', 'destroy')",
        "UPDATE adapter SET name = '../evil'",
        "DROP TABLE alias",
    ],
)
def test_whatever_stands_in_the_index_readers_get_what_they_asked_for_or_an_error_of_the_house(
    used: Desk, statement: str
) -> None:
    with meddling(used, log=True) as index:
        index.execute(statement)
    refused = 0
    with open_registry(used.folder / "registry", cache=used.folder / "other-cache") as registry:
        for question in (
            registry.adapters,
            lambda: registry.show(SUPPORT),
            lambda: registry.resolve(ref("acme/support@prod")),
            lambda: registry.history(SUPPORT),
            lambda: registry.changes("0"),
        ):
            try:
                question()
            except HotshoeError:
                refused += 1
        with pytest.raises(Tampered):
            registry.verify()
    assert refused


def test_an_alias_of_a_version_that_is_not_there_is_found(used: Desk) -> None:
    (move,) = used.registry.history(SUPPORT)[-1:]
    stranger = replace(move.to[0], version=replace(move.to[0].version, commit="f" * 40))
    marker = replace(move.marker, to=(stranger,), promotion_id="another")
    used.registry.store.move_alias(SUPPORT, move.alias, marker, expected=move.etag, recorded=True)
    with pytest.raises(Tampered, match=r"acme/support@prod points to v2 with commit .* promote a version"):
        used.registry.verify()


@pytest.mark.parametrize("cursor", ["", "abc", "-1", "1.5", "9" * 30, "\u0663"])
def test_a_cursor_that_nobody_gave_is_refused(used: Desk, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="begin with none"):
        used.registry.changes(cursor)


def test_a_writer_that_another_holds_up_for_too_long_says_so(
    used: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_index, "_BUSY_SECONDS", 0.05)
    with (
        closing(sqlite3.connect(used.folder / "registry" / "index.sqlite")) as other,
        open_registry(used.folder / "registry", cache=used.folder / "cache") as late,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailable, match="locked"):
            late.promote(SUPPORT, "prod", 1)
        assert late.resolve(ref("acme/support@prod")).number == 2, "readers go on"
        other.rollback()
        assert late.promote(SUPPORT, "prod", 1).to
