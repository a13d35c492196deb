"""Structures are followed in processes of their own, which take no more than they may."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import xgrammar
from support.grammars import AMBIGUOUS, ENDLESS

from hotshoe.serve.structures.limits import (
    GAP_SECONDS,
    IDLE_SECONDS,
    MASK_SECONDS,
    PROMISED_SECONDS,
    SLOW_NICENESS,
)
from hotshoe.serve.structures.process import Follower
from hotshoe.serve.structures.processes import BUSY, UNKNOWN, Processes, Zygote
from hotshoe.serve.structures.wanted import Wanted

pytestmark = pytest.mark.timeout(120)

STARVED_SECONDS = 900
"""For ten of the processor's time that a process gets only where nobody else wants it."""

VOCABULARY = ["<eos>", "a", "b", "{", "}", '"', ":", ",", "1"]
EOS, A, B = 0, 1, 2

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


def zygote() -> Zygote:
    info = xgrammar.TokenizerInfo(VOCABULARY, vocab_size=len(VOCABULARY), stop_token_ids=[EOS])
    return Zygote(info.serialize_json())


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


def key(text: str, tenant: str = "") -> str:
    return Wanted.of(tenant, "grammar", text).key


def asked(processes: Processes, text: str, kind: str = "grammar", tenant: str = "") -> str | None:
    """The verdict that there is now."""
    wanted = Wanted.of(tenant, kind, text)
    found = processes.verdict(wanted.key)
    return processes.verdict(wanted.key, wanted) if found == UNKNOWN else found


def verdict(processes: Processes, text: str, kind: str = "grammar", tenant: str = "") -> str:
    """The verdict, once there is one."""
    while (found := asked(processes, text, kind, tenant)) is None:
        time.sleep(0.01)
    return found


def nicenesses() -> set[int]:
    """Of the processes below this one."""
    found: set[int] = set()
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(each.nice())
    return found


def child_of(processes: Processes, text: str) -> psutil.Process:
    """The process of a structure that they do not know yet."""
    assert verdict(processes, 'root ::= "a"') == ""  # The zygote is there.
    others = set(psutil.Process().children(recursive=True))
    assert verdict(processes, text) == ""
    (found,) = set(psutil.Process().children(recursive=True)) - others
    return found


def allowed(processes: Processes, follower: Follower) -> set[int]:
    while not processes.ready(follower, 1.0):
        pass
    assert follower.fault is None
    if follower.mask is None:
        return set(range(len(VOCABULARY)))
    bits = int.from_bytes(follower.mask, "little")
    return {token for token in range(len(VOCABULARY)) if bits >> token & 1}


def test_an_answer_is_followed_token_by_token(processes: Processes) -> None:
    grammar = 'root ::= "ab" | "aab"'
    assert verdict(processes, grammar) == ""
    follower = processes.open(key(grammar), (EOS,))
    assert allowed(processes, follower) == {A}
    assert processes.accept(follower, (A,))
    assert allowed(processes, follower) == {A, B}
    assert processes.accept(follower, (B,))
    assert allowed(processes, follower) == {EOS}
    assert processes.accept(follower, (EOS,))
    assert allowed(processes, follower) == set(range(len(VOCABULARY)))
    assert follower.ended
    processes.close_follower(follower)


def test_answers_of_one_structure_go_their_own_ways(processes: Processes) -> None:
    grammar = 'root ::= "ab" | "ba"'
    assert verdict(processes, grammar) == ""
    one, other = (processes.open(key(grammar), (EOS,)) for _ in range(2))
    processes.accept(one, (A,))
    processes.accept(other, (B,))
    assert (allowed(processes, one), allowed(processes, other)) == ({B}, {A})
    for each in (one, other):
        processes.close_follower(each)


def test_what_cannot_be_understood_is_refused_with_the_reason(processes: Processes) -> None:
    assert "Undefined rule" in verdict(processes, "root ::= nothing") or "nothing" in verdict(
        processes, "root ::= nothing"
    )
    assert verdict(processes, '{"type": 3}', "json")


def test_tokens_that_do_not_fit_end_the_answer(processes: Processes) -> None:
    grammar = 'root ::= "aa"'
    assert verdict(processes, grammar) == ""
    follower = processes.open(key(grammar), (EOS,))
    processes.accept(follower, (B,))
    while not processes.ready(follower, 1.0):
        pass
    assert follower.fault is not None
    assert not processes.accept(follower, (A,))


@pytest.mark.timeout(STARVED_SECONDS)
def test_an_answer_that_takes_ever_longer_is_ended_and_others_of_its_structure_go_on(
    processes: Processes,
) -> None:
    assert verdict(processes, AMBIGUOUS) == ""
    other, follower = (processes.open(key(AMBIGUOUS), (EOS,)) for _ in range(2))
    longest = 0.0
    while follower.fault is None:
        before = time.thread_time()
        processes.accept(follower, (A,))
        processes.ready(follower)
        longest = max(longest, time.thread_time() - before)
        while not processes.ready(follower, 1.0):
            pass
    assert follower.fault is not None
    assert (follower.fault.blamed, "in this answer" in follower.fault.why) == (True, True)
    assert not processes.accept(follower, (A,))
    assert longest < 0.05  # Whoever asks does none of the work.
    assert verdict(processes, AMBIGUOUS) == ""
    for each in (other, processes.open(key(AMBIGUOUS), (EOS,))):
        assert processes.accept(each, (A,))
        assert A in allowed(processes, each)
        processes.close_follower(each)


def test_a_structure_that_takes_long_for_a_token_is_refused_from_then_on_to_its_tenant_alone(
    processes: Processes,
) -> None:
    assert [verdict(processes, AMBIGUOUS, tenant=tenant) for tenant in ("acme", "globex")] == ["", ""]
    ours, theirs = (processes.open(key(AMBIGUOUS, tenant), (EOS,)) for tenant in ("acme", "globex"))
    assert processes.accept(ours, (A,) * 200)
    while not processes.ready(ours, 1.0):
        pass
    assert ours.fault is not None
    assert "by a token" in (asked(processes, AMBIGUOUS, tenant="acme") or "")
    assert asked(processes, AMBIGUOUS, tenant="globex") == ""
    assert processes.accept(theirs, (A,))
    assert A in allowed(processes, theirs)
    processes.close_follower(theirs)


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


def test_where_memory_runs_out_a_structure_goes_before_the_engine(processes: Processes) -> None:
    child = child_of(processes, 'root ::= "babb"')
    assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "1000"


def test_more_messages_than_a_process_can_hold_unread_wait_for_it(processes: Processes) -> None:
    grammar = 'root ::= "bbab" | "ba"'
    child = child_of(processes, grammar)
    child.suspend()
    followers = [processes.open(key(grammar), (EOS,)) for _ in range(600)]
    for each in followers:
        assert processes.accept(each, (B,))
    child.resume()
    for each in followers:
        assert allowed(processes, each) == {A, B}
        processes.close_follower(each)


def test_answers_that_many_tokens_may_end_begin_together(processes: Processes) -> None:
    grammar = 'root ::= "bbba" | "ab"'
    child = child_of(processes, grammar)
    child.suspend()
    stops = (EOS,) * 1_000  # 64 of these are twice what a packet holds.
    followers = [processes.open(key(grammar), stops) for _ in range(64)]
    child.resume()
    for each in followers:
        assert allowed(processes, each) == {A, B}
        processes.close_follower(each)


@pytest.mark.timeout(STARVED_SECONDS)
def test_a_structure_that_takes_minutes_to_compile_is_refused_while_others_are_compiled(
    processes: Processes,
) -> None:
    assert asked(processes, ENDLESS) is None
    assert verdict(processes, 'root ::= "bbb"') == ""
    while asked(processes, ENDLESS) is None and SLOW_NICENESS not in nicenesses():
        time.sleep(0.05)
    assert SLOW_NICENESS in nicenesses()  # It only gets what of the processor nobody else wants.
    while (found := verdict(processes, ENDLESS)) == BUSY:
        time.sleep(0.05)  # It did not get far in a minute: others wanted the processor.
    assert "to compile" in found


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= " + "(" * 30_000 + '"a"' + ")" * 30_000,
        'root ::= "a"{1,400000}',
        "\n".join(f"r{n} ::= r{n + 1} r{n + 1}" for n in range(40)) + '\nr40 ::= "a"\nroot ::= r0',
    ],
    ids=["parentheses", "repetitions", "doubling"],
)
def test_what_breaks_its_process_or_its_bounds_breaks_nothing_else(
    processes: Processes, grammar: str
) -> None:
    verdict(processes, grammar)
    assert verdict(processes, 'root ::= "bb"') == ""


def test_an_engine_that_was_away_blames_no_structure_for_it() -> None:
    def large() -> Zygote:
        words = [*VOCABULARY, *(f"w{n}" for n in range(128_000))]
        info = xgrammar.TokenizerInfo(words, vocab_size=len(words), stop_token_ids=[EOS])
        return Zygote(info.serialize_json())

    processes, grammar = Processes(large), 'root ::= "a" root | "b"'
    try:
        assert verdict(processes, grammar) == ""
        followers = [processes.open(key(grammar), (EOS,)) for _ in range(16)]
        for each in followers:
            assert processes.accept(each, (A,))
        time.sleep(MASK_SECONDS + 0.1)  # More masks than the channel holds: the process waits for us.
        processes.look()
        for each in followers:
            while not processes.ready(each, 1.0):
                pass
        assert not any(each.fault for each in followers)
        assert asked(processes, grammar) == ""
    finally:
        processes.close()


def test_a_structure_whose_process_stands_still_is_not_blamed(processes: Processes) -> None:
    grammar = 'root ::= "ba" | "bba"'
    child = child_of(processes, grammar)
    follower = processes.open(key(grammar), (EOS,))
    child.suspend()
    processes.accept(follower, (B,))
    time.sleep(MASK_SECONDS + 0.1)
    assert not processes.ready(follower)
    assert follower.fault is None
    child.resume()
    assert allowed(processes, follower) == {A, B}
    processes.close_follower(follower)


def test_an_answer_may_go_on_with_anything_after_the_end(processes: Processes) -> None:
    grammar = 'root ::= "abb"'
    assert verdict(processes, grammar) == ""
    one, other = (processes.open(key(grammar), (EOS,)) for _ in range(2))
    for token in (A, B, B, EOS, A, EOS):
        assert processes.accept(one, (token,))
        allowed(processes, one)
    for token in (A, B, B, EOS, A, EOS):  # Planned ahead: nobody has heard of the end yet.
        assert processes.accept(other, (token,))
    while other.process.waiting():
        processes.look()
        time.sleep(0.01)
    for each in (one, other):
        assert each.ended
        assert each.fault is None
        processes.close_follower(each)


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
