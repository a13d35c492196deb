"""Processes killed (-9) in the middle of a change: readers see all of it or nothing, a retry completes it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk
from support.hub.server import HubServer

from hotshoe.adapter.errors import AdapterNotFound, VersionNotFound
from hotshoe.adapter.version import Version
from hotshoe.registry import open_registry
from hotshoe.registry.base import fetch_base
from hotshoe.registry.mirror import Mirrored, mirror
from hotshoe.registry.retention import Retention, collect

HOTSHOE = [sys.executable, "-c", "from hotshoe.cli.main import main; main()"]


class Victim:
    """The command line in a process of its own, killed when the Hub is asked for a certain thing."""

    def __init__(self, hub: HubServer, home: Path) -> None:
        self._hub = hub
        self._environment = {
            **os.environ,
            "HOTSHOE_REGISTRY": "hub://acme?poll_seconds=0",
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": hub.token,
            "HF_HOME": str(home / "hf"),
            "HOTSHOE_CACHE": str(home / "cache"),
            # Who is killed leaves what was staged.
            "TMPDIR": str(home),
        }

    def dies(
        self, method: str, path: str, *words: str, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Run a command; the Hub does what it is asked there, but nobody hears the answer.

        meanwhile: what somebody else does just before that.
        """
        started = threading.Event()
        victim: list[subprocess.Popen[bytes]] = []

        def kill() -> None:
            started.wait(10)
            meanwhile()
            victim[0].kill()
            victim[0].wait(10)

        self._hub.interleave(method, path, kill)
        with subprocess.Popen([*HOTSHOE, *words], env=self._environment, stderr=subprocess.PIPE) as process:
            victim.append(process)
            started.set()
            _, said = process.communicate(timeout=60)
        assert process.returncode == -9, said.decode()
        self._hub.settle()


@pytest.fixture
def victim(hub: HubServer, tmp_path: Path) -> Victim:
    home = tmp_path / "home"
    home.mkdir()
    return Victim(hub, home)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/repos/create"),
        ("POST", "/preupload/"),
        ("POST", "/lfs/objects/batch"),
        ("PUT", "/lfs/"),
        ("POST", "/commit/"),
        ("POST", "/tag/"),
    ],
)
def test_a_publisher_killed_at_any_step_leaves_all_or_nothing_and_its_retry_completes_it(
    hub: HubServer,
    desk: Desk,
    victim: Victim,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    method: str,
    path: str,
) -> None:
    folder = desk.adapter(1)
    victim.dies(method, path, "publish", str(folder), "--as", str(SUPPORT), "--base", str(desk.base.folder))
    if path == "/tag/":
        assert desk.registry.fetch(desk.registry.resolve(ref("acme/support@v1"))).is_dir()
    else:
        with pytest.raises(AdapterNotFound):
            desk.registry.show(SUPPORT)
    monkeypatch.setenv("HOTSHOE_CACHE", str(tmp_path / "cache"))
    again = desk.registry.publish(folder, SUPPORT, base=fetch_base(str(desk.base.folder)))
    repo = hub.repos["acme/support"]
    assert (again.number, repo.tags) == (1, {"v1": again.commit})
    assert len(repo.log("main")) == 2


@pytest.mark.parametrize("path", ["/branch/", "/preupload/", "/commit/"])
def test_a_promoter_killed_at_any_step_leaves_the_alias_where_it_was_or_where_it_goes(
    desk: Desk, open_desk: Callable[[], Desk], victim: Victim, path: str
) -> None:
    desk.publish(1)
    victim.dies("POST", path, "promote", "acme/support@v1", "prod", "--reason", "go")
    aliases = open_desk().registry.show(SUPPORT).aliases
    assert [state.version.number for state in aliases.values()] == ([1] if path == "/commit/" else [])
    desk.registry.promote(SUPPORT, "prod", 1)
    assert len(desk.registry.history(SUPPORT, "prod")) == 1


def test_a_collector_killed_after_somebody_promoted_is_made_good_by_the_next_collection(
    open_desk: Callable[[], Desk], victim: Victim
) -> None:
    desk, other = open_desk(), open_desk()
    first, _ = desk.publish(1), desk.publish(2)
    words = ("gc", "--last", "1", "--days", "0", "--yes")
    victim.dies("DELETE", "/tag/", *words, meanwhile=lambda: other.registry.promote(SUPPORT, "prod", 1))
    made_good(desk, first)


def test_a_promoter_killed_after_somebody_let_the_version_go_is_made_good_by_the_next_collection(
    open_desk: Callable[[], Desk], victim: Victim
) -> None:
    desk, other = open_desk(), open_desk()
    first, _ = desk.publish(1), desk.publish(2)
    words = ("promote", "acme/support@v1", "prod", "--reason", "go")
    victim.dies("POST", "/commit/", *words, meanwhile=lambda: other.registry.store.retire(SUPPORT, 1))
    made_good(desk, first)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/repos/create"),
        ("PUT", "/lfs/"),
        ("POST", "/commit/main"),
        ("POST", "/tag/"),
        ("POST", "/branch/"),
        ("POST", "/commit/prod"),
    ],
)
def test_a_mirror_killed_at_any_step_leaves_whole_versions_and_the_next_one_completes_it(
    hub: HubServer, desk: Desk, victim: Victim, tmp_path: Path, method: str, path: str
) -> None:
    with open_registry(tmp_path / "folder", cache=tmp_path / "folder-cache") as folder:
        for seed in (1, 2):
            folder.publish(desk.adapter(seed), SUPPORT, base=desk.base)
            folder.promote(SUPPORT, "prod", seed, reason=f"turn {seed}")
        victim.dies(method, path, "mirror", "hub://acme", "--registry", folder.url)
        with contextlib.suppress(AdapterNotFound):
            for state in desk.registry.show(SUPPORT).versions:
                desk.registry.fetch(state.version)
            desk.registry.verify()
        mirror(folder, desk.registry)
        assert mirror(folder, desk.registry) == Mirrored((), ())
        there, here = desk.registry.show(SUPPORT), folder.show(SUPPORT)
    assert [s.manifest.sha256 for s in there.versions] == [s.manifest.sha256 for s in here.versions]
    assert there.aliases["prod"].version.number == 2
    assert [move.reason for move in desk.registry.history(SUPPORT)] == ["turn 1", "turn 2"]
    assert len(hub.repos[str(SUPPORT)].log("main")) == 3
    desk.registry.verify()


def made_good(desk: Desk, first: Version) -> None:
    """Is v1 where prod is, and without its tag, until the next collection?"""
    assert desk.registry.resolve(ref("acme/support@prod")) == first
    with pytest.raises(VersionNotFound):
        desk.registry.resolve(ref("acme/support@v1"))
    assert collect(desk.registry, Retention(last=1, days=0), dry_run=False).versions == ()
    assert desk.registry.resolve(ref("acme/support@v1")) == first
    desk.registry.verify()
