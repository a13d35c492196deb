"""A disk that takes no more: what is said, and that nothing stays behind or is stuck."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk
from support.full_disk import no_file_grows_beyond

from hotshoe.adapter.errors import Conflict, RegistryUnavailable
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.version import Version
from hotshoe.registry.cache import Cache
from hotshoe.registry.local_index import Index


@contextlib.contextmanager
def in_the_way(folder: Path) -> Iterator[None]:
    """A file stands where the folder was; unlike missing rights, that stops even root."""
    aside = folder.rename(folder.with_name("aside"))
    folder.touch()
    yield
    folder.unlink()
    aside.rename(folder)


def test_a_cache_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryUnavailable, match=r"no cache can be kept in .*HOTSHOE_CACHE"):
        Cache(tmp_path / "file" / "cache")


def test_a_cache_without_room_says_so_and_holds_nothing(desk: Desk, tmp_path: Path) -> None:
    version = desk.publish(1)
    cache = Cache(tmp_path / "small")

    def fill(folder: Path) -> Manifest:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        RegistryUnavailable, match=r"acme/support@v1 cannot be kept .*No space left on device"
    ):
        cache.hold(version, fill)
    assert not list((tmp_path / "small" / "drafts").iterdir())
    assert not [path for path in (tmp_path / "small" / "leases").rglob("*") if path.is_file()]


def test_a_cache_that_cannot_be_written_to_says_so(desk: Desk) -> None:
    version = desk.publish(1)
    with (
        in_the_way(desk.folder / "cache" / "adapters" / "leases"),
        pytest.raises(RegistryUnavailable, match="HOTSHOE_CACHE"),
    ):
        desk.registry.fetch(version)
    assert desk.registry.fetch(version).is_dir()


def test_a_registry_that_cannot_be_written_to_says_so_and_works_again_later(desk: Desk) -> None:
    for name in ("staging", "blobs"):
        with (
            in_the_way(desk.folder / "registry" / name),
            pytest.raises(RegistryUnavailable, match="see that it has room"),
        ):
            desk.publish(1)
    assert not list((desk.folder / "registry" / "staging").iterdir())
    assert desk.publish(1).number == 1
    assert desk.registry.verify().entries == 1


def test_a_folder_that_finds_no_room_to_be_copied_is_told_as_such_and_leaves_nothing(desk: Desk) -> None:
    folder = desk.adapter(1)
    with (
        no_file_grows_beyond(4000),
        pytest.raises(RegistryUnavailable, match="cannot be copied to be published"),
    ):
        desk.publish(1)
    assert not list((desk.folder / "registry" / "staging").iterdir())
    assert (folder / "adapter_model.safetensors").stat().st_size > 4000
    assert desk.publish(1).number == 1


def test_bytes_that_cannot_be_read_are_told_as_such(desk: Desk, tmp_path: Path) -> None:
    version = desk.publish(1)
    with (
        in_the_way(desk.folder / "registry" / "blobs"),
        pytest.raises(RegistryUnavailable, match="cannot be copied from"),
    ):
        desk.registry.store.fetch(SUPPORT, version.commit, ["adapter_config.json"], tmp_path)


def test_a_lost_race_leaves_no_bytes_behind(desk: Desk) -> None:
    desk.publish(1)
    version = desk.registry.resolve(ref("acme/support@v1"))
    with pytest.raises(Conflict):
        add_again(desk, version)
    assert not list((desk.folder / "registry" / "staging").iterdir())


def add_again(desk: Desk, version: Version) -> None:
    manifest = desk.registry.manifest(version)
    publication = desk.registry.store.publications(SUPPORT)[version.commit]
    files = {".hotshoe/manifest.json": manifest.canonical()}
    desk.registry.store.add_version(SUPPORT, files, publication, newest=0, number=1)


def test_a_commit_that_fails_changes_nothing_and_the_next_one_works(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    with (
        pytest.raises(RegistryUnavailable),
        no_file_grows_beyond((tmp_path / "index.sqlite-wal").stat().st_size),
        index.writing() as connection,
    ):
        connection.execute("INSERT INTO adapter (name) VALUES ('acme/lost')")
    with index.writing() as connection:
        connection.execute("INSERT INTO adapter (name) VALUES ('acme/kept')")
    assert index.rows("SELECT name FROM adapter") == [("acme/kept",)]
    index.close()


def test_a_commit_that_leaves_the_transaction_open_blocks_no_later_one(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    with index.writing() as connection:
        connection.execute("INSERT INTO adapter (name) VALUES ('acme/kept')")
    # Noticed only at the COMMIT, which then leaves it to us what becomes of the transaction.
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("CREATE TABLE child (parent REFERENCES adapter DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(RegistryUnavailable, match="FOREIGN KEY"), index.writing() as connection:
        connection.execute("INSERT INTO child VALUES (9)")
    with index.writing() as connection:
        connection.execute("DELETE FROM adapter")
    assert not index.rows("SELECT parent FROM child UNION ALL SELECT name FROM adapter")
    index.close()
