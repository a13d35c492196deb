"""Who has a process for a structure, for how long, and what becomes of the others when one goes."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.grammars import ENDLESS
from support.structures import EOS, A, B, allowed, asked, key, verdict, zygote

from hotshoe.serve.structures.limits import (
    GAP_SECONDS,
    IDLE_SECONDS,
    PROMISED_SECONDS,
)
from hotshoe.serve.structures.processes import BUSY, UNKNOWN, Processes, Zygote

pytestmark = pytest.mark.timeout(120)

FAILING_FORK = """
import os

fork = os.fork


def fork_unless_full():
    if os.path.exists({full!r}):
        raise BlockingIOError("no more processes")
    return fork()


os.fork = fork_unless_full
"""
"""What a Python loads first: a machine that has no more processes while the file is there."""


class Clock:
    """Stands still until it is told how much time passes."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def pass_by(self, processes: Processes, seconds: float) -> None:
        """Meanwhile somebody looks at the processes every now and then."""
        for _ in range(int(seconds / GAP_SECONDS)):
            self._now += GAP_SECONDS
            processes.look()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    found = Processes(zygote)
    yield found
    found.close()


def test_a_tenant_that_floods_takes_no_place_from_another() -> None:
    processes, mine = Processes(zygote, most=8), 'root ::= "ab"'
    try:
        assert verdict(processes, mine, tenant="globex") == ""
        flood = [ENDLESS + f'\nx ::= "{"b" * n}"' for n in range(1, 9)]
        assert [asked(processes, text, tenant="acme") for text in flood] == [None] * 4 + [BUSY] * 4
        assert verdict(processes, 'root ::= "ba"', tenant="globex") == ""
        assert verdict(processes, 'root ::= "aa"', tenant="initech") == ""
        assert asked(processes, mine, tenant="globex") == ""  # Nobody follows it, and still it is there.
        follower = processes.open(key(mine, "globex"), (EOS,))
        assert allowed(processes, follower) == {A}
        assert sum(asked(processes, text, tenant="acme") == BUSY for text in flood) >= 4
    finally:
        processes.close()


def test_what_nobody_uses_for_five_minutes_gives_its_memory_back() -> None:
    clock = Clock()
    processes = Processes(zygote, clock=clock)
    try:
        used, unused = 'root ::= "aab"', 'root ::= "abb"'
        assert [verdict(processes, text) for text in (used, unused)] == ["", ""]
        follower = processes.open(key(used), (EOS,))
        clock.pass_by(processes, IDLE_SECONDS - 1)
        assert processes.verdict(key(unused)) == ""  # Asked for, it stays as long again.
        clock.pass_by(processes, IDLE_SECONDS - 1)
        assert processes.verdict(key(unused)) == ""
        clock.pass_by(processes, IDLE_SECONDS + 1)
        assert processes.verdict(key(unused)) == UNKNOWN
        assert allowed(processes, follower) == {A}
    finally:
        processes.close()


def test_structures_nobody_follows_make_room_and_those_in_use_do_not() -> None:
    clock = Clock()
    processes = Processes(zygote, most=4, clock=clock)  # Two for one tenant.
    try:
        texts = [f'root ::= "{letter}"' for letter in "ab"]
        assert [verdict(processes, text) for text in texts] == ["", ""]
        followers = [processes.open(key(text), (EOS,)) for text in texts]
        assert verdict(processes, 'root ::= "aab"') == BUSY
        processes.close_follower(followers[0])
        clock.pass_by(processes, PROMISED_SECONDS)
        assert verdict(processes, 'root ::= "aab"') == BUSY  # Somebody else may be about to follow it.
        clock.pass_by(processes, GAP_SECONDS)
        assert verdict(processes, 'root ::= "aab"') == ""
        assert allowed(processes, followers[1]) == {B}
    finally:
        processes.close()


def test_a_structure_found_good_keeps_its_place_until_its_answer_has_begun() -> None:
    processes = Processes(zygote, most=4, clock=Clock())  # Two for one tenant, then one for another.
    try:
        texts = [f'root ::= "{letter}"' for letter in "ab"]
        assert [verdict(processes, text) for text in texts] == ["", ""]
        assert verdict(processes, 'root ::= "aab"') == BUSY
        assert verdict(processes, texts[0], tenant="acme") == ""
        assert verdict(processes, texts[1], tenant="acme") == BUSY
        followers = [processes.open(key(text), (EOS,)) for text in texts]
        assert [allowed(processes, each) for each in followers] == [{A}, {B}]
    finally:
        processes.close()


def test_a_structure_that_nobody_waits_for_is_compiled_no_further_and_not_refused() -> None:
    processes, small = Processes(zygote, most=1), 'root ::= "a"'
    try:
        assert verdict(processes, small) == ""  # The zygote is there.
        while (found := asked(processes, ENDLESS)) == BUSY:
            time.sleep(0.05)
        assert found is None  # It has the only place now.
        assert asked(processes, small) == BUSY
        until = time.monotonic() + 30
        while asked(processes, small) == BUSY:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert verdict(processes, small) == ""
        while (found := asked(processes, ENDLESS)) == BUSY:
            time.sleep(0.05)
        assert found is None
    finally:
        processes.close()


def test_a_zygote_that_stands_still_holds_up_nobody_who_asks() -> None:
    started = zygote()
    processes = Processes(lambda: started, most=10_000)
    (child,) = (each for each in psutil.Process().children() if each.pid == started.pid)
    try:
        assert verdict(processes, 'root ::= "a"') == ""
        child.suspend()
        texts = (f'root ::= "a" | "{"b" * n}"' for n in range(2_000))
        assert any(asked(processes, text) is not None for text in texts)
        child.resume()
    finally:
        processes.close()


def test_a_zygote_that_can_fork_no_more_blames_no_structure_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    (tmp_path / "sitecustomize.py").write_text(FAILING_FORK.format(full=str(full)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    started = zygote()
    processes, mine, other = Processes(lambda: started), 'root ::= "aba"', 'root ::= "abab"'
    try:
        assert verdict(processes, mine) == ""
        follower = processes.open(key(mine), (EOS,))
        full.touch()
        assert verdict(processes, other) == BUSY
        full.unlink()
        assert processes.accept(follower, (A,))
        assert allowed(processes, follower) == {B}
        while (found := verdict(processes, other)) == BUSY:
            time.sleep(0.05)
        assert found == ""
        assert not started.dead()
    finally:
        processes.close()


def test_a_zygote_that_has_closed_a_channel_already_is_not_taken_for_gone(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    grammar = 'root ::= "aba"'
    assert verdict(processes, grammar) == ""
    follower = processes.open(key(grammar), (EOS,))

    def closed(self: Zygote) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        return ours

    with monkeypatch.context() as patched:
        patched.setattr(Zygote, "fork", closed)
        assert asked(processes, 'root ::= "abab"') == BUSY
    assert processes.accept(follower, (A,))
    assert allowed(processes, follower) == {B}
    processes.close_follower(follower)


def test_a_failed_fork_ends_nobody_elses_answer(processes: Processes) -> None:
    grammar = 'root ::= "aba"'
    assert verdict(processes, grammar) == ""
    follower = processes.open(key(grammar), (EOS,))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        refused = asked(processes, 'root ::= "abab"')
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused == BUSY
    assert processes.accept(follower, (A,))
    assert allowed(processes, follower) == {B}
    processes.close_follower(follower)


def test_processes_end_with_their_owner_and_come_back_when_one_is_killed() -> None:
    processes = Processes(zygote)
    me = psutil.Process()
    others = set(me.children(recursive=True))
    try:
        assert verdict(processes, 'root ::= "a"') == ""
        ours = set(me.children(recursive=True)) - others
        assert len(ours) == 2
        first = next(each for each in ours if each.parent() == me)
        os.kill(first.pid, signal.SIGKILL)
        time.sleep(0.2)
        assert verdict(processes, 'root ::= "a"') == ""
    finally:
        processes.close()
    ours |= set(me.children(recursive=True)) - others
    _, alive = psutil.wait_procs(ours, timeout=5)
    assert not alive
