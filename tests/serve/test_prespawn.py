"""A process that is started before anybody knows what it will run."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import setproctitle
from support.processes import command, runs

from hotshoe.serve.prespawn import CORE, Prespawned, imports_hastened, prespawned
from hotshoe.serve.vllm_config import environment

SPAWN = multiprocessing.get_context("spawn")


def tell_of_itself(path: str) -> None:
    said = [os.environ.get(name) for name in ("SAID_EARLY", "SAID_LATE", "OMP_NUM_THREADS")]
    told = [os.getpid(), *said, "decimal" in sys.modules]
    with open(path, "w") as out:
        out.write(repr(told))


def name_itself(path: str) -> None:
    setproctitle.setproctitle("an engine")
    Path(path).write_text(command(psutil.Process()))


def count(numbers: Any) -> None:
    numbers.send(os.getpid())


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[Prespawned]:
    monkeypatch.setenv("SAID_EARLY", "yes")
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
    early: Prespawned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAID_EARLY")
    monkeypatch.setenv("SAID_LATE", "yes")
    out = tmp_path / "out"

    pid = run(early, CORE, tell_of_itself, str(out))

    assert pid == early.pid
    assert out.read_text() == repr([early.pid, None, "yes", "5", True])


def test_it_can_be_named_in_its_new_environment(early: Prespawned, tmp_path: Path) -> None:
    run(early, CORE, name_itself, str(tmp_path / "out"))

    assert (tmp_path / "out").read_text().split() == ["an", "engine"]


def test_it_is_used_once_and_by_nobody_else(early: Prespawned, tmp_path: Path) -> None:
    names = ("another", CORE, CORE)
    processes = [
        SPAWN.Process(target=tell_of_itself, name=name, args=(str(tmp_path / str(number)),))
        for number, name in enumerate(names)
    ]
    with environment(5), early.lent():
        for process in processes:
            process.start()
    for process in processes:
        process.join(30)

    assert [process.pid == early.pid for process in processes] == [False, True, False]
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_one_that_is_of_no_use_ends(early: Prespawned) -> None:
    process = psutil.Process(early.pid)

    with environment(1), early.lent():
        assert runs(process)

    assert not runs(process)


def test_one_that_loaded_other_libraries_first_is_not_used(
    early: Prespawned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_one_that_died_meanwhile_is_not_used(early: Prespawned, tmp_path: Path) -> None:
    process = psutil.Process(early.pid)
    process.kill()
    while runs(process):
        time.sleep(0.01)

    assert run(early, CORE, tell_of_itself, str(tmp_path / "out")) != early.pid


def test_one_that_dies_while_it_is_told_is_seen_to_be_dead(early: Prespawned) -> None:
    psutil.Process(early.pid).suspend()
    process = SPAWN.Process(target=os.getpid, name=CORE)
    with environment(1), early.lent():
        process.start()
    psutil.Process(early.pid).kill()

    process.join(10)

    assert process.exitcode == -9
    process.close()


def test_modules_of_the_working_directory_do_not_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "decimal.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)

    with closing(Prespawned(1, ("decimal",))) as early:
        assert run(early, CORE, tell_of_itself, str(tmp_path / "out")) == early.pid


def test_a_server_starts_without_where_there_is_no_process_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def spawn(*_: Any) -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr("multiprocessing.util.spawnv_passfds", spawn)
    descriptors = psutil.Process().num_fds()

    with prespawned(1) as early:
        assert early is None

    assert psutil.Process().num_fds() == descriptors


def test_what_was_imported_is_not_looked_through_for_garbage_again() -> None:
    known = gc.get_freeze_count()
    try:
        with imports_hastened():
            kept: list[list[int]] = [[] for _ in range(1000)]
            assert not gc.isenabled()

        assert gc.isenabled()
        assert gc.get_freeze_count() - known >= len(kept)
    finally:
        gc.unfreeze()


def test_nothing_is_said_of_what_a_stopped_engine_left_behind() -> None:
    script = (
        "from multiprocessing import resource_tracker\n"
        "from hotshoe.serve.prespawn import Prespawned\n"
        "early = Prespawned(1, ())\n"
        "resource_tracker.register('/left-by-a-core', 'semaphore')\n"
        "early.close()\n"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_it_ends_with_its_server() -> None:
    script = "from hotshoe.serve.prespawn import *; print(Prespawned(1, ()).pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        process = psutil.Process(int(server.stdout.readline()))
        server.kill()

    process.wait(timeout=10)
