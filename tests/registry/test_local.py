"""The store in a folder: what it keeps, and how it notices that somebody changed it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk, meddling

from hotshoe.adapter.errors import (
    InvalidConfig,
    Refused,
    RegistryUnavailable,
    Tampered,
)
from hotshoe.registry import open_registry


def blob_of(desk: Desk, name: str) -> Path:
    version = desk.registry.resolve(ref("acme/support@v1"))
    sha256 = next(f.sha256 for f in desk.registry.manifest(version).files if f.path == name)
    return desk.folder / "registry" / "blobs" / sha256


def test_a_change_of_the_log_is_refused_by_the_log_itself(used: Desk) -> None:
    for statement in ("UPDATE event SET body = ''", "DELETE FROM event"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"), meddling(used) as index:
            index.execute(statement)


@pytest.mark.parametrize(
    ("statement", "log"),
    [
        ("UPDATE event SET body = replace(body, 'ada', 'eve') WHERE seq = 1", True),
        ("UPDATE event SET body = body || ' ' WHERE seq = 2", True),
        ("DELETE FROM event WHERE seq = 2", True),
        ("DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)", True),
        ("UPDATE event SET seq = 100 WHERE seq = 1", True),
        ("UPDATE alias SET etag = (SELECT etag FROM event WHERE alias IS NOT NULL ORDER BY seq)", False),
        ("DELETE FROM alias", False),
        ("UPDATE version SET tree = '0' WHERE number = 1", False),
        ("DELETE FROM version WHERE number = 1", False),
        ("UPDATE file SET sha256 = '0' WHERE path = 'adapter_config.json'", False),
        ("INSERT INTO file SELECT tree, 'more.bin', 1, 'x' FROM version", False),
        ("INSERT INTO file VALUES ('0', 'more.bin', 1, 'x')", False),
        ("UPDATE version SET event = 4 - event", False),
        ("UPDATE version SET retired = 1 WHERE number = 1", False),
        ("UPDATE version SET adapter = 7 WHERE number = 1", False),
        ("UPDATE version SET summary = replace(summary, 'tiny', 'huge')", False),
        ("DELETE FROM file WHERE tree = (SELECT tree FROM version WHERE number = 1)", False),
        ("UPDATE alias SET shown = 'v1'", False),
        ("UPDATE adapter SET name = 'acme/other'", False),
        ("UPDATE event SET alias = 'staging' WHERE seq = 2", True),
        ("UPDATE event SET alias = NULL WHERE seq = 2", True),
        ("UPDATE event SET alias = 'prod' WHERE seq = 1", True),
        ("UPDATE event SET adapter = 7 WHERE seq = 4", True),
    ],
)
def test_verify_finds_what_somebody_changed(used: Desk, statement: str, log: bool) -> None:
    assert used.registry.verify().entries == 4
    with meddling(used, log=log) as index:
        index.execute("PRAGMA foreign_keys = OFF")
        index.execute(statement)
    with pytest.raises(Tampered):
        used.registry.verify()


def swap_numbers(index: sqlite3.Connection) -> None:
    for before, after in ((1, 9), (2, 1), (9, 2)):
        index.execute("UPDATE version SET number = ? WHERE number = ?", (after, before))


def test_verify_finds_versions_that_changed_places(used: Desk) -> None:
    with meddling(used) as index:
        swap_numbers(index)
    with pytest.raises(Tampered, match="acme/support@v1 is not in the index as the log tells"):
        used.registry.verify()


def test_verify_finds_a_version_that_was_brought_back(used: Desk) -> None:
    used.registry.store.retire(SUPPORT, 1)
    assert used.registry.verify().entries == 5
    with meddling(used) as index:
        index.execute("UPDATE version SET retired = 0")
    with pytest.raises(Tampered, match="acme/support@v1"):
        used.registry.verify()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_verify_finds_a_bit_that_flipped_and_bytes_that_are_gone(used: Desk, name: str) -> None:
    blob = blob_of(used, name)
    blob.chmod(0o644)
    data = blob.read_bytes()
    blob.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(Tampered, match=name):
        used.registry.verify()
    blob.unlink()
    with pytest.raises(Tampered, match=name):
        used.registry.verify()


def test_a_log_whose_end_was_cut_off_is_found_by_who_noted_its_head(used: Desk) -> None:
    first = used.registry.promote(SUPPORT, "prod", 1)
    noted = used.registry.verify().head
    used.registry.promote(SUPPORT, "prod", 2)
    assert used.registry.verify(noted).entries == 6, "a log may grow"
    with meddling(used, log=True) as index:
        index.execute("DELETE FROM event WHERE seq > 4")
        index.execute(
            "UPDATE alias SET shown = 'v2', etag = (SELECT etag FROM event WHERE seq = 4 AND etag != ?)",
            (first.etag,),
        )
    assert used.registry.verify().entries == 4, "of itself it looks whole"
    with pytest.raises(Tampered, match="cut off"):
        used.registry.verify(noted)


def test_weights_that_changed_on_disk_are_never_handed_out(used: Desk) -> None:
    blob = blob_of(used, "adapter_model.safetensors")
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(Tampered, match=r"adapter_model\.safetensors"):
        used.registry.fetch(used.registry.resolve(ref("acme/support@v1")))


def test_a_manifest_that_changed_on_disk_is_noticed_by_its_reader(used: Desk, tmp_path: Path) -> None:
    version = used.registry.resolve(ref("acme/support@v1"))
    blobs = used.folder / "registry" / "blobs"
    blob = blobs / version.manifest_sha256
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes().replace(b'"rank":4', b'"rank":8'))
    with (
        open_registry(used.folder / "registry", cache=tmp_path / "other") as fresh,
        pytest.raises(Tampered, match=version.manifest_sha256[:12]),
    ):
        fresh.resolve(ref("acme/support@v1"))


def test_bytes_that_are_gone_are_named(used: Desk) -> None:
    blob_of(used, "adapter_model.safetensors").unlink()
    with pytest.raises(Tampered, match=r"adapter_model.safetensors .* is gone"):
        used.registry.fetch(used.registry.resolve(ref("acme/support@v1")))


def test_publishing_the_same_bytes_again_heals_them(used: Desk) -> None:
    blob = blob_of(used, "adapter_config.json")
    blob.unlink()
    used.publish(3)
    assert blob.is_file(), "v3 has the same config"


def test_a_sweep_takes_what_nobody_can_reach_and_nothing_else(used: Desk) -> None:
    orphan = used.folder / "registry" / "blobs" / ("ab" * 32)
    orphan.write_bytes(b"x" * 500)
    stale = used.folder / "registry" / "staging" / "1234.part"
    fresh = stale.with_name("5678.part")
    for part in (stale, fresh):
        part.write_bytes(b"y" * 50)
    os.utime(stale, (1, 1))
    assert used.registry.store.sweep() == 550
    assert fresh.exists()
    for number in (1, 2):
        used.registry.fetch(used.registry.resolve(ref(f"acme/support@v{number}")))


def test_a_sweep_frees_what_a_retired_version_alone_had(used: Desk) -> None:
    weights, config = blob_of(used, "adapter_model.safetensors"), blob_of(used, "adapter_config.json")
    size = weights.stat().st_size
    used.registry.store.retire(SUPPORT, 1)
    assert used.registry.store.sweep() >= size
    assert not weights.exists()
    assert config.exists(), "v2 has the same config"
    assert used.registry.verify().entries == 5


def test_staging_of_a_process_that_lives_is_left_alone(used: Desk) -> None:
    with used.registry.store.staging() as folder:
        os.utime(folder.with_suffix(".lock"), (1, 1))
        used.registry.store.sweep()
        assert folder.is_dir()
    assert not list((used.folder / "registry" / "staging").iterdir())


def test_staging_of_a_process_that_died_is_swept(used: Desk) -> None:
    folder = used.folder / "registry" / "staging" / "dead"
    folder.mkdir()
    (folder / "half").write_bytes(b"z" * 9)
    folder.with_suffix(".lock").touch()
    os.utime(folder.with_suffix(".lock"), (1, 1))
    assert used.registry.store.sweep() == 9
    assert not folder.exists()


def test_nothing_is_written_that_anybody_may_change(used: Desk) -> None:
    blobs = [path for path in (used.folder / "registry" / "blobs").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in blobs} == {0o444}


def test_a_registry_of_a_newer_hotshoe_is_refused(used: Desk) -> None:
    with meddling(used) as index:
        index.execute("PRAGMA user_version = 99")
    with pytest.raises(Refused, match="schema 99"):
        open_registry(used.folder / "registry")


def test_a_folder_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RegistryUnavailable, match="HOTSHOE_REGISTRY"):
        open_registry(tmp_path / "file" / "registry")


@pytest.mark.parametrize("url", ["s3://bucket/adapters", "http://host/adapters", "a\0b", "a\udcff"])
def test_a_url_that_names_no_registry_is_refused(url: str) -> None:
    with pytest.raises(InvalidConfig, match=r"hub://org|name of a folder"):
        open_registry(url)


def test_the_environment_names_the_registry_where_nobody_else_does(
    used: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSHOE_REGISTRY", str(used.folder / "registry"))
    monkeypatch.setenv("HOTSHOE_CACHE", str(used.folder / "cache"))
    with open_registry() as registry:
        assert [str(summary.adapter) for summary in registry.adapters()] == ["acme/support"]
    monkeypatch.setenv("HOTSHOE_CACHE_BYTES", "plenty")
    with pytest.raises(InvalidConfig, match="plenty"):
        open_registry()


PUBLISHER = """
import sys
from pathlib import Path
from support.adapters import SUPPORT, make_adapter, make_base
from hotshoe.registry import open_registry
folder, first = Path(sys.argv[1]), int(sys.argv[2])
base = make_base(folder / f"base-{first}")
with open_registry(folder / "registry", cache=folder / "cache") as registry:
    for seed in range(first, first + 3):
        version = registry.publish(make_adapter(folder / f"adapter-{seed}", seed), SUPPORT, base=base)
        registry.promote(SUPPORT, "prod", version.number)
"""


def test_processes_that_share_a_new_folder_lose_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    publishers = [
        subprocess.Popen([sys.executable, "-c", PUBLISHER, str(tmp_path), str(first)], env=environment)
        for first in (0, 10, 20)
    ]
    assert [publisher.wait(120) for publisher in publishers] == [0, 0, 0]
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        assert [found.version.number for found in registry.show(SUPPORT).versions] == list(range(1, 10))
        history = registry.history(SUPPORT, "prod")
        assert len(history) == 9
        assert [move.marker.previous for move in history] == [None, *(move.etag for move in history[:-1])]
        assert registry.verify().entries == 18


CLOSED_UNDER_READERS = """
import sys
import threading
from pathlib import Path
from hotshoe.adapter.errors import RegistryUnavailable
from hotshoe.registry import open_registry

def read(registry):
    cursor = None
    try:
        while True:
            registry.changes(cursor)
    except RegistryUnavailable:
        pass  # It is closed.

for _ in range(40):
    with open_registry(Path(sys.argv[1]) / "registry", cache=Path(sys.argv[1]) / "cache") as registry:
        readers = [threading.Thread(target=read, args=(registry,)) for _ in range(4)]
        for each in readers:
            each.start()
    for each in readers:
        each.join()
"""


def test_a_registry_may_be_closed_while_somebody_reads(tmp_path: Path) -> None:
    """SQLite does not survive that; a server's last look for changes may run in a thread when it ends."""
    process = subprocess.run([sys.executable, "-c", CLOSED_UNDER_READERS, str(tmp_path)], timeout=60)
    assert process.returncode == 0
