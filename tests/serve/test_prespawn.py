"""A process that is started before anybody knows what it will run."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psutil
import pytest
from support.processes import runs

from hotshoe.serve.prespawn import CORE, Prespawned
from hotshoe.serve.vllm_config import environment

SPAWN = multiprocessing.get_context("spawn")


def tell_of_itself(path: str) -> None:
    told = [os.getpid(), os.environ.get("SAID_LATE"), "decimal" in sys.modules, os.environ["OMP_NUM_THREADS"]]
    with open(path, "w") as out:
        out.write(repr(told))


def count(numbers: Any) -> None:
    numbers.send(os.getpid())


@pytest.fixture
def early() -> Iterator[Prespawned]:
    with closing(Prespawned(3, ("decimal",))) as early:
        yield early


def run(early: Prespawned, name: str, target: Any, *arguments: Any) -> int:
    """The pid of what multiprocessing spawned while `early` was lent; it has ended well."""
    process = SPAWN.Process(target=target, name=name, args=arguments)
    with environment(5), early.lent():
        process.start()
    pid = process.pid
    process.join(30)
    assert process.exitcode == 0
    assert pid is not None
    process.close()
    return pid


def test_it_becomes_the_engines_process_in_the_environment_of_that_moment(
    early: Prespawned, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAID_LATE", "yes")
    out = tmp_path / "out"

    pid = run(early, CORE, tell_of_itself, str(out))

    assert pid == early.pid
    assert out.read_text() == repr([early.pid, "yes", True, "5"])


def test_it_is_used_once_and_by_nobody_else(early: Prespawned, tmp_path: Any) -> None:
    out = str(tmp_path / "out")

    pids = [run(early, name, tell_of_itself, out) for name in ("another", CORE, CORE)]

    assert [pid == early.pid for pid in pids] == [False, True, False]


def test_one_that_loaded_other_libraries_first_is_not_used(
    early: Prespawned, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libgomp-of-another.so")

    assert run(early, CORE, tell_of_itself, str(tmp_path / "out")) != early.pid


def test_a_process_that_inherits_descriptors_is_spawned_as_ever(early: Prespawned) -> None:
    receiver, sender = SPAWN.Pipe(duplex=False)
    with receiver, sender:
        pid = run(early, CORE, count, sender)

        assert receiver.recv() == pid != early.pid


def test_it_ends_when_nobody_wants_it() -> None:
    early = Prespawned(1, ())
    process = psutil.Process(early.pid)

    early.close()

    assert not runs(process)
    early.close()


def test_one_that_died_meanwhile_is_seen_to_be_dead(early: Prespawned) -> None:
    psutil.Process(early.pid).kill()
    process = SPAWN.Process(target=os.getpid, name=CORE)
    with environment(1), early.lent():
        process.start()

    process.join(10)

    assert process.exitcode == -9
    process.close()


def test_it_ends_with_its_server() -> None:
    script = "from hotshoe.serve.prespawn import *; print(Prespawned(1, ()).pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        process = psutil.Process(int(server.stdout.readline()))
        server.kill()

    process.wait(timeout=10)
