"""The cache: one download, nothing unverified, nothing leased evicted, whoever dies."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.adapters import SUPPORT

from hotshoe.adapter.errors import RegistryUnavailable, Tampered
from hotshoe.adapter.manifest import Base, FileEntry, Manifest
from hotshoe.adapter.version import Version
from hotshoe.registry.cache import SLACK, Cache

Fill = Callable[[Path], Manifest]


def content(seed: int, size: int = 1000) -> tuple[Version, Fill]:
    """A version of one file of `size` bytes, and what brings it."""
    data = bytes([seed]) * size
    entry = FileEntry("adapter_model.safetensors", size, hashlib.sha256(data).hexdigest())
    manifest = Manifest("acme/support", Base("tiny", "", "0" * 64), 4, 8.0, ("q_proj",), (entry,))

    def fill(folder: Path) -> Manifest:
        (folder / entry.path).write_bytes(data)
        return manifest

    return Version(SUPPORT, seed, f"{seed:040x}", manifest.sha256), fill


def _on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def never(folder: Path) -> Manifest:
    raise AssertionError("it is here already")


def test_what_is_here_is_not_brought_again_by_anybody(tmp_path: Path) -> None:
    version, fill = content(1)
    folder = Cache(tmp_path).hold(version, fill)
    assert Cache(tmp_path).hold(version, never) == folder


def test_a_hundred_who_want_one_version_cause_one_download(tmp_path: Path) -> None:
    version, fill = content(1)
    downloads = []

    def slow(folder: Path) -> Manifest:
        downloads.append(folder)
        time.sleep(0.05)
        return fill(folder)

    caches = [Cache(tmp_path) for _ in range(10)]
    with ThreadPoolExecutor(100) as pool:
        folders = set(pool.map(lambda i: caches[i % 10].hold(version, slow), range(100)))
    assert len(folders) == len(downloads) == 1


def test_wrong_bytes_are_put_into_quarantine_and_never_handed_out(tmp_path: Path) -> None:
    version, fill = content(1)

    def tampered(folder: Path) -> Manifest:
        manifest = fill(folder)
        (folder / "adapter_model.safetensors").write_bytes(b"x" * 1000)
        return manifest

    cache = Cache(tmp_path)
    with pytest.raises(Tampered, match=r"adapter_model.safetensors of acme/support@v1"):
        cache.hold(version, tampered)
    assert len(list((tmp_path / "quarantine").iterdir())) == 1
    assert cache.hold(version, fill).is_dir()


def test_quarantine_is_bounded_and_goes_before_anything_that_is_good(tmp_path: Path) -> None:
    (good, fill), (bad, _), (another, bring) = (content(seed, 10_000) for seed in (1, 2, 3))
    cache = Cache(tmp_path, max_bytes=25_000)
    for _ in range(3):
        with pytest.raises(Tampered):
            cache.hold(bad, fill)
    (away,) = (tmp_path / "quarantine").iterdir()
    assert away.name == bad.manifest_sha256
    cache.hold(good, fill)
    cache.release(good)
    cache.hold(another, bring)
    assert not away.exists()
    assert cache.hold(good, never).is_dir()


@pytest.mark.parametrize("name", ["adapter_model.bin", "sub/extra.json", ".hidden"])
def test_a_file_that_the_manifest_does_not_list_is_refused(tmp_path: Path, name: str) -> None:
    version, fill = content(1)

    def with_more(folder: Path) -> Manifest:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"more")
        return fill(folder)

    with pytest.raises(Tampered, match=Path(name).name):
        Cache(tmp_path).hold(version, with_more)


def test_a_link_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    version, fill = content(1)

    def linked(folder: Path) -> Manifest:
        manifest = fill(folder)
        path = folder / "adapter_model.safetensors"
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        return manifest

    with pytest.raises(Tampered):
        Cache(tmp_path / "cache").hold(version, linked)


def test_another_manifest_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    version, _ = content(1)
    _, other = content(2)
    with pytest.raises(Tampered, match="not the one that was published"):
        Cache(tmp_path).hold(version, other)


def test_what_rots_in_the_cache_is_brought_again(tmp_path: Path) -> None:
    version, fill = content(1)
    cache = Cache(tmp_path)
    path = cache.hold(version, fill) / "adapter_model.safetensors"
    good = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    assert (cache.hold(version, fill) / path.name).read_bytes() == good


def test_a_bringer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    version, fill = content(1)

    def fails(folder: Path) -> Manifest:
        fill(folder)
        raise OSError("the disk is full")

    cache = Cache(tmp_path)
    with pytest.raises(RegistryUnavailable, match="the disk is full"):
        cache.hold(version, fails)
    assert list((tmp_path / "drafts").iterdir()) == []
    assert not list((tmp_path / "leases").rglob("*/*"))
    assert cache.hold(version, fill).is_dir()


def test_over_the_limit_the_longest_unused_goes_first(tmp_path: Path) -> None:
    roomy = Cache(tmp_path)
    folders = {}
    for seed in (1, 2, 3):
        version, fill = content(seed, 10_000)
        folders[seed] = roomy.hold(version, fill)
        os.utime(folders[seed], (seed, seed))
        roomy.release(version)
    oldest, _ = content(1, 10_000)
    roomy.hold(oldest, never)  # Wanted again, so that 2 is the longest unused now.
    roomy.release(oldest)
    Cache(tmp_path, max_bytes=25_000).hold(*content(4, 10_000))
    assert [seed for seed in folders if folders[seed].exists()] == [1]


def test_only_as_much_comes_over_the_limit_as_is_not_worth_a_look(tmp_path: Path) -> None:
    size = _on_disk(Cache(tmp_path / "one").hold(*content(1)))
    limit = 120 * size
    cache = Cache(tmp_path / "many", max_bytes=limit, grace_seconds=0)
    most = 0
    for seed in range(200):
        version, fill = content(seed)
        cache.hold(version, fill)
        cache.release(version)
        most = max(most, _on_disk(tmp_path / "many" / "versions"))
    assert limit < most <= limit * (1 + SLACK) + size


def test_what_was_over_the_limit_while_it_was_held_goes_with_the_next_that_comes(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1_000_000, grace_seconds=0)
    versions = [content(seed, 600_000) for seed in range(3)]
    folders = [cache.hold(*each) for each in versions]
    for version, _ in versions:
        cache.release(version)
    assert all(folder.exists() for folder in folders)
    cache.hold(*content(9, 1_000))
    assert sum(folder.exists() for folder in folders) == 1


def test_looking_for_what_must_go_does_not_wait_for_a_version_that_another_thread_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, fill = content(1)
    folder = Cache(tmp_path).hold(version, fill)
    verifying, go_on = threading.Event(), threading.Event()

    def slow(*arguments: object) -> None:
        verifying.set()
        assert go_on.wait(10)

    monkeypatch.setattr("hotshoe.registry.cache.check_folder", slow)
    cache = Cache(tmp_path, max_bytes=1, grace_seconds=0)
    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(cache.hold, version, never)
        assert verifying.wait(10)
        try:
            assert pool.submit(cache.evict).result(10) == 0
        finally:
            go_on.set()
        assert holding.result(10) == folder
    assert folder.exists()


def test_a_version_is_measured_once_however_many_come_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def size(folder: Path) -> int:
        measured.append(folder.name)
        return 100

    monkeypatch.setattr("hotshoe.registry.cache._size", size)
    cache = Cache(tmp_path, max_bytes=350, grace_seconds=0)
    for seed in range(8):
        version, fill = content(seed)
        cache.hold(version, fill)
        cache.release(version)
    assert len(measured) == len(set(measured)) == 8
    assert len(list((tmp_path / "versions").iterdir())) == 3
    cache.hold(*content(0))  # It had to go: it is brought again, and measured again.
    assert len(measured) == 9


def test_what_is_held_stays_however_much_is_over_the_limit(tmp_path: Path) -> None:
    holder, other = Cache(tmp_path, max_bytes=1), Cache(tmp_path, max_bytes=1)
    version, fill = content(1)
    folder = holder.hold(version, fill)
    holder.hold(version, fill)
    other.evict()
    holder.release(version)
    other.evict()
    assert folder.exists()
    holder.release(version)
    other.evict()
    assert not folder.exists()


def test_a_closed_cache_holds_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1)
    version, fill = content(1)
    folder = cache.hold(version, fill)
    cache.close()
    Cache(tmp_path, max_bytes=1).evict()
    assert not folder.exists()


HOLDER = """
import sys, time
from pathlib import Path
from registry.test_cache import content
from hotshoe.registry.cache import Cache
cache = Cache(Path(sys.argv[1]))
cache.hold(*content(1))
print("held", flush=True)
time.sleep(60)
"""


def test_the_lease_of_a_holder_that_was_killed_counts_for_a_time_of_grace(tmp_path: Path) -> None:
    tests = Path(__file__).parent.parent
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        (folder,) = (tmp_path / "versions").iterdir()
        Cache(tmp_path, max_bytes=1, grace_seconds=0).evict()
        assert folder.exists(), "the holder lives"
        holder.send_signal(signal.SIGKILL)
    for lease in (tmp_path / "leases").rglob("*/*"):
        os.utime(lease, (0, 0))  # Taken long ago: grace begins when the death is found.
    Cache(tmp_path, max_bytes=1, grace_seconds=0.3).evict()
    assert folder.exists(), "the holder died just now"
    time.sleep(0.4)
    Cache(tmp_path, max_bytes=1, grace_seconds=0.3).evict()
    assert not folder.exists()
