"""How an adapter lies in a repo, decided without a Hub."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from hotshoe.adapter.manifest import MANIFEST_PATH, Base, FileEntry, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry.hub_layout import (
    Changes,
    PublicationNote,
    changes_between,
    marker_in,
    move_title,
    publication_title,
    refs_from,
    version_files,
)
from hotshoe.registry.values import ALIAS_PATH, Marker, Publication, Target

SUPPORT = AdapterName("acme", "support")
AT = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
V7 = Version(SUPPORT, 7, "a" * 40, "b" * 64)
MARKER = Marker("promote", (Target(V7),), (), None, "ada", "first\nline", "p-1", AT)
NOTE = PublicationNote("id-1", 7, Publication("ada", "größer | better\n", AT, "b" * 64))


def test_a_publication_note_survives_its_way_through_a_commit_message() -> None:
    assert PublicationNote.find(NOTE.text()) == NOTE
    assert PublicationNote.find(f"{NOTE.text()}\n") == NOTE


@pytest.mark.parametrize(
    "message", ["", "fix typo", "{}", "[1]", "7", '{"id": 1}', MARKER.canonical().decode()]
)
def test_a_message_of_another_kind_holds_no_publication(message: str) -> None:
    assert PublicationNote.find(message) is None


@pytest.mark.parametrize(
    "change",
    [
        {"at": "0001-01-01T00:00:00+23:59"},
        {"number": 0},
        {"number": 10**9},
        {"number": "seven"},
        {"actor": "\ud800"},
        {"message": None},
    ],
)
def test_a_publication_that_makes_no_sense_is_none(change: dict[str, Any]) -> None:
    assert PublicationNote.find(json.dumps(json.loads(NOTE.text()) | change)) is None


def test_a_marker_is_found_in_the_message_of_its_commit() -> None:
    assert marker_in(MARKER.canonical().decode() + "\n", SUPPORT) == MARKER


@pytest.mark.parametrize(
    "message", ["", "Update README.md", NOTE.text(), '{"promotion_id": 1}', '"promotion_id"']
)
def test_a_message_of_another_kind_holds_no_marker(message: str) -> None:
    assert marker_in(message, SUPPORT) is None


def test_tags_are_versions_and_branches_aliases_where_their_names_fit() -> None:
    refs = refs_from(
        SUPPORT,
        {"v10": "c10", "v2": "c2", "v0": "x", "v02": "x", "release": "x", "V3": "x"},
        {"main": "c10", "prod": "p", "Feature": "x", "refs": "x", "v4": "x", "canary-eu": "q"},
    )
    assert dict(refs.versions) == {2: "c2", 10: "c10"}
    assert list(refs.versions) == [2, 10]
    assert dict(refs.aliases) == {"prod": "p", "canary-eu": "q"}


def test_an_alias_tree_gets_what_differs_and_loses_what_is_stale() -> None:
    current = {".gitattributes": "g", ALIAS_PATH: "old", "same": "1", "changed": "1", "stale": "1"}
    assert changes_between(current, {"same": "1", "changed": "2", "new": "3"}) == Changes(
        delete=("stale",), write=("changed", "new")
    )
    assert changes_between(current, {}) == Changes(delete=("changed", "same", "stale"), write=())


def test_what_only_the_hub_needs_is_no_file_of_the_version() -> None:
    tree = [".gitattributes", ALIAS_PATH, ".hotshoe/publication.json", MANIFEST_PATH, "README.md", "odd.bin"]
    assert version_files(tree, None) == {MANIFEST_PATH, "odd.bin"}
    listing = Manifest("acme/support", Base("b", "", ""), 1, 1.0, (), (FileEntry("README.md", 1, "0" * 64),))
    assert version_files(tree, listing) == {MANIFEST_PATH, "odd.bin", "README.md"}


def test_titles_are_one_short_line() -> None:
    assert move_title("prod", MARKER) == "prod: nothing -> v7"
    assert publication_title(7, "\n better \nmore") == "v7: better"
    assert publication_title(7, "") == "v7"
    assert len(publication_title(7, "x" * 500)) == 72
