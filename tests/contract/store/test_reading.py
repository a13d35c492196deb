"""Reading: fetch, list, history, changes; the same in every store."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.adapters import LEGAL, SUPPORT, make_base, ref
from support.desk import Desk

from hotshoe.adapter.errors import (
    AdapterNotFound,
    AliasNotFound,
    Conflict,
    Refused,
    Tampered,
    VersionNotFound,
)
from hotshoe.adapter.manifest import MANIFEST_PATH, FileEntry, Manifest
from hotshoe.adapter.version import Version
from hotshoe.registry import targets_text
from hotshoe.registry.retention import Retention, collect
from hotshoe.registry.store import Store
from hotshoe.registry.values import Publication


def test_a_fetched_version_holds_the_bytes_that_were_published(desk: Desk) -> None:
    folder = desk.registry.fetch(desk.publish(1))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (folder / name).read_bytes() == (desk.adapter(1) / name).read_bytes()
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o444


@pytest.mark.parametrize(
    ("name", "claimed", "says"),
    [
        ("adapter_model.bin", 10, "no version is made of, see adapter_model.bin"),
        ("adapter_model.safetensors", 9, "another size than its manifest says"),
    ],
)
def test_what_a_manifest_lists_wrongly_is_refused_before_a_byte_is_fetched(
    desk: Desk, store: Store, tmp_path: Path, name: str, claimed: int, says: str
) -> None:
    base = make_base(tmp_path / "base").base
    entry = FileEntry(name, claimed, hashlib.sha256(b"0123456789").hexdigest())
    manifest = Manifest(str(SUPPORT), base, 4, 8.0, ("q_proj",), (entry,))
    files = {MANIFEST_PATH: manifest.canonical(), name: b"0123456789"}
    publication = Publication("mallory", "", datetime.now(UTC), manifest.sha256)
    commit = store.add_version(SUPPORT, files, publication, newest=0, number=1)
    with pytest.raises(Tampered, match=says):
        desk.registry.fetch(Version(SUPPORT, 1, commit, manifest.sha256))


def test_a_version_fetched_again_is_in_the_same_place(desk: Desk) -> None:
    version = desk.publish(1)
    assert desk.registry.fetch(version) == desk.registry.fetch(version)


def test_what_one_process_published_another_can_fetch(open_desk: Callable[[], Desk]) -> None:
    version = open_desk().publish(1)
    other = open_desk().registry
    assert (other.fetch(other.resolve(ref("acme/support@v1"))) / "adapter_config.json").is_file()
    assert other.resolve(ref("acme/support@v1")) == version


def test_an_alias_that_another_process_moves_is_followed(open_desk: Callable[[], Desk]) -> None:
    mine, other = open_desk(), open_desk()
    mine.publish(1)
    mine.publish(2)
    mine.registry.promote(SUPPORT, "prod", 1)
    assert other.registry.resolve(ref("acme/support")).number == 1
    mine.registry.promote(SUPPORT, "prod", 2)
    assert other.registry.resolve(ref("acme/support")).number == 2


def test_many_threads_that_fetch_one_version_get_one_folder(desk: Desk) -> None:
    version = desk.publish(1)
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: desk.registry.fetch(version), range(32)))) == 1


def test_a_listing_names_every_adapter_with_versions_aliases_and_base(desk: Desk) -> None:
    desk.publish(1, LEGAL)
    desk.publish(1)
    desk.publish(2)
    desk.registry.promote(SUPPORT, "prod", 1)
    desk.registry.split(SUPPORT, "canary", {2: 10, 1: 90})
    desk.registry.promote(SUPPORT, "old", 1)
    desk.registry.unset(SUPPORT, "old")
    support, legal = desk.registry.adapters()
    assert (support.adapter, support.latest, support.versions, support.base) == (SUPPORT, 2, 2, "tiny")
    assert support.aliases == {"prod": "v1", "canary": "v1:90,v2:10"}
    assert (legal.adapter, legal.latest, legal.aliases) == (LEGAL, 1, {})


def test_an_empty_registry_lists_nothing_and_says_who_is_missing(desk: Desk) -> None:
    assert desk.registry.adapters() == []
    for ask in (desk.registry.show, desk.registry.history):
        with pytest.raises(AdapterNotFound, match="acme/support"):
            ask(SUPPORT)


def test_the_history_of_one_alias_is_only_its_own(desk: Desk) -> None:
    desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1, reason="first")
    desk.registry.promote(SUPPORT, "staging", 1)
    assert [move.reason for move in desk.registry.history(SUPPORT, "prod")] == ["first"]
    with pytest.raises(AliasNotFound, match="it has: prod, staging"):
        desk.registry.history(SUPPORT, "canary")


def test_changes_tell_what_moved_since_the_cursor_and_nothing_twice(desk: Desk) -> None:
    desk.publish(1)
    nothing, cursor = desk.registry.changes(None, [SUPPORT])
    assert nothing == []
    desk.publish(2)
    etag = desk.registry.promote(SUPPORT, "prod", 2).etag
    changes, cursor = desk.registry.changes(cursor, [SUPPORT])
    assert {(change.adapter, change.alias, change.target) for change in changes} == {
        (SUPPORT, "", "v2"),
        (SUPPORT, "prod", etag),
    }
    assert desk.registry.changes(cursor, [SUPPORT])[0] == []


def test_changes_are_told_only_of_the_adapters_asked_for(desk: Desk) -> None:
    desk.publish(1)
    desk.publish(1, LEGAL)
    _, cursor = desk.registry.changes(None, [LEGAL])
    desk.publish(2)
    desk.publish(2, LEGAL)
    changes, _ = desk.registry.changes(cursor, [LEGAL])
    assert {change.adapter for change in changes} == {LEGAL}


def test_the_log_is_proven_whole(desk: Desk) -> None:
    desk.publish(1)
    desk.registry.promote(SUPPORT, "prod", 1)
    seen: list[tuple[int, int]] = []
    assert desk.registry.verify(progress=lambda done, whole: seen.append((done, whole))).entries >= 2
    assert len({whole for _, whole in seen}) == 1
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_a_retired_version_is_gone_and_its_number_is_not_given_again(desk: Desk) -> None:
    for seed in (1, 2):
        desk.publish(seed)
    desk.registry.store.retire(SUPPORT, 1)
    with pytest.raises(VersionNotFound, match="it has: v2"):
        desk.registry.resolve(ref("acme/support@v1"))
    assert desk.publish(3).number == 3
    assert desk.publish(1).number == 4


def test_a_collection_lets_old_versions_go_and_the_history_goes_on_telling_of_them(desk: Desk) -> None:
    for seed in (1, 2, 3, 4):
        desk.publish(seed)
    for number in (1, 2):
        desk.registry.promote(SUPPORT, "prod", number)
    keep = Retention(last=1, days=0)
    assert [each.number for each in collect(desk.registry, keep).versions] == [1, 3]
    assert len(desk.registry.show(SUPPORT).versions) == 4, "that was a dry run"
    assert [each.number for each in collect(desk.registry, keep, dry_run=False).versions] == [1, 3]
    assert [each.version.number for each in desk.registry.show(SUPPORT).versions] == [2, 4]
    assert [targets_text(move.to) for move in desk.registry.history(SUPPORT, "prod")] == ["v1", "v2"]
    desk.registry.fetch(desk.registry.resolve(ref("acme/support@prod")))
    desk.registry.verify()


def test_the_newest_version_cannot_be_retired(desk: Desk) -> None:
    desk.publish(1)
    with pytest.raises(Refused, match="newest"):
        desk.registry.store.retire(SUPPORT, 1)


def test_a_version_that_an_alias_points_to_cannot_be_retired(desk: Desk) -> None:
    for seed in (1, 2, 3):
        desk.publish(seed)
    desk.registry.split(SUPPORT, "canary", {1: 10, 2: 90})
    for number in (1, 2):
        with pytest.raises(Refused, match=f"v{number} is what canary points to"):
            desk.registry.store.retire(SUPPORT, number)
    desk.registry.unset(SUPPORT, "canary")
    desk.registry.store.retire(SUPPORT, 1)


def test_a_commit_of_another_adapter_is_not_found(desk: Desk) -> None:
    version = desk.publish(1)
    desk.publish(2, LEGAL)
    with pytest.raises(VersionNotFound):
        desk.registry.resolve(ref(f"globex/legal@{version.commit}"))
    for read in (
        lambda: desk.registry.store.tree(LEGAL, version.commit),
        lambda: desk.registry.store.read(LEGAL, version.commit, "adapter_config.json"),
        lambda: desk.registry.store.fetch(LEGAL, version.commit, ["adapter_config.json"], desk.folder),
    ):
        with pytest.raises(VersionNotFound):
            read()


def test_a_rollback_passes_over_versions_that_were_retired(desk: Desk) -> None:
    for seed in (1, 2, 3):
        desk.publish(seed)
        desk.registry.promote(SUPPORT, "prod", seed)
    desk.registry.store.retire(SUPPORT, 2)
    assert desk.registry.rollback(SUPPORT, "prod").version == desk.registry.resolve(ref("acme/support@v1"))


def test_a_store_refuses_a_version_after_another_newest_one(desk: Desk) -> None:
    version = desk.publish(1)
    store = desk.registry.store
    files = {path: store.read(SUPPORT, version.commit, path) for path in store.tree(SUPPORT, version.commit)}
    publication = store.publications(SUPPORT)[version.commit]
    with pytest.raises(Conflict):
        store.add_version(SUPPORT, files, publication, newest=0, number=1)
