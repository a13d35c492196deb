"""Structures are followed in processes of their own, which take no more than they may."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator

import psutil
import pytest
import xgrammar
from support.grammars import AMBIGUOUS, ENDLESS

from hotshoe.serve.structures.limits import MASK_SECONDS, SLOW_NICENESS
from hotshoe.serve.structures.process import Follower
from hotshoe.serve.structures.processes import BUSY, Processes, Zygote

pytestmark = pytest.mark.timeout(120)

VOCABULARY = ["<eos>", "a", "b", "{", "}", '"', ":", ",", "1"]
EOS, A, B = 0, 1, 2


def zygote() -> Zygote:
    info = xgrammar.TokenizerInfo(VOCABULARY, vocab_size=len(VOCABULARY), stop_token_ids=[EOS])
    return Zygote(info.serialize_json())


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    found = Processes(zygote, most=4)
    yield found
    found.close()


def verdict(processes: Processes, text: str, kind: str = "grammar", seconds: float = 60.0) -> str:
    until = time.monotonic() + seconds
    while (found := processes.verdict(kind, text)) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


def nicenesses() -> set[int]:
    """Of the processes below this one."""
    return {each.nice() for each in psutil.Process().children(recursive=True)}


def allowed(processes: Processes, follower: Follower) -> set[int]:
    while not processes.ready(follower, 1.0):
        pass
    assert not follower.failed
    if follower.mask is None:
        return set(range(len(VOCABULARY)))
    bits = int.from_bytes(follower.mask, "little")
    return {token for token in range(len(VOCABULARY)) if bits >> token & 1}


def test_an_answer_is_followed_token_by_token(processes: Processes) -> None:
    grammar = 'root ::= "ab" | "aab"'
    assert verdict(processes, grammar) == ""
    follower = processes.open("grammar", grammar, (EOS,))
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
    one, other = (processes.open("grammar", grammar, (EOS,)) for _ in range(2))
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
    follower = processes.open("grammar", grammar, (EOS,))
    processes.accept(follower, (B,))
    while not processes.ready(follower, 1.0):
        pass
    assert follower.failed
    assert not processes.accept(follower, (A,))


def test_a_structure_that_takes_ever_longer_is_ended_and_refused_from_then_on(processes: Processes) -> None:
    assert verdict(processes, AMBIGUOUS) == ""
    follower = processes.open("grammar", AMBIGUOUS, (EOS,))
    longest, began = 0.0, time.monotonic()
    while not follower.failed and time.monotonic() - began < 60:
        before = time.thread_time()
        processes.accept(follower, (A,))
        processes.ready(follower)
        longest = max(longest, time.thread_time() - before)
        while not processes.ready(follower, 1.0):
            pass
    assert follower.failed
    assert longest < 0.05  # Whoever asks does none of the work.
    began = time.monotonic()
    assert "too" in verdict(processes, AMBIGUOUS) or "over" in verdict(processes, AMBIGUOUS)
    assert time.monotonic() - began < 1.0


def test_a_structure_that_takes_minutes_to_compile_is_refused_while_others_are_compiled(
    processes: Processes,
) -> None:
    assert processes.verdict("grammar", ENDLESS) is None
    assert verdict(processes, 'root ::= "bbb"') == ""
    while processes.verdict("grammar", ENDLESS) is None and SLOW_NICENESS not in nicenesses():
        time.sleep(0.05)
    assert SLOW_NICENESS in nicenesses()  # It only gets what of the processor nobody else wants.
    assert "to compile" in verdict(processes, ENDLESS)


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
        followers = [processes.open("grammar", grammar, (EOS,)) for _ in range(16)]
        for each in followers:
            assert processes.accept(each, (A,))
        time.sleep(MASK_SECONDS + 0.1)  # More masks than the channel holds: the process waits for us.
        processes.look()
        for each in followers:
            while not processes.ready(each, 1.0):
                pass
        assert not any(each.failed for each in followers)
        assert processes.verdict("grammar", grammar) == ""
    finally:
        processes.close()


def test_a_structure_whose_process_stands_still_is_not_blamed(processes: Processes) -> None:
    others = set(psutil.Process().children(recursive=True))
    grammar = 'root ::= "ba" | "bba"'
    assert verdict(processes, grammar) == ""
    (child,) = set(psutil.Process().children(recursive=True)) - others
    follower = processes.open("grammar", grammar, (EOS,))
    child.suspend()
    processes.accept(follower, (B,))
    time.sleep(MASK_SECONDS + 0.1)
    assert not processes.ready(follower)
    assert not follower.failed
    child.resume()
    assert allowed(processes, follower) == {A, B}
    processes.close_follower(follower)


def test_an_answer_may_go_on_with_anything_after_the_end(processes: Processes) -> None:
    grammar = 'root ::= "abb"'
    assert verdict(processes, grammar) == ""
    one, other = (processes.open("grammar", grammar, (EOS,)) for _ in range(2))
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
        assert not each.failed
        processes.close_follower(each)


def test_a_structure_that_nobody_waits_for_is_compiled_no_further_and_not_refused() -> None:
    processes, small = Processes(zygote, most=1), 'root ::= "a"'
    try:
        assert verdict(processes, small) == ""  # The zygote is there.
        assert processes.verdict("grammar", ENDLESS) is None  # It has the only place now.
        assert processes.verdict("grammar", small) == BUSY
        until = time.monotonic() + 30
        while processes.verdict("grammar", small) == BUSY:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert verdict(processes, small) == ""
        assert processes.verdict("grammar", ENDLESS) is None
    finally:
        processes.close()


def test_a_zygote_that_stands_still_holds_up_nobody_who_asks() -> None:
    started = zygote()
    processes = Processes(lambda: started, most=10_000)
    (child,) = (each for each in psutil.Process().children() if each.pid == started.pid)
    try:
        assert verdict(processes, 'root ::= "a"') == ""
        child.suspend()
        asked = 0
        while processes.verdict("grammar", f'root ::= "a" | "{"b" * asked}"') is None:
            asked += 1
            assert asked < 2_000
        child.resume()
    finally:
        processes.close()


def test_a_failed_fork_ends_nobody_elses_answer(processes: Processes) -> None:
    grammar = 'root ::= "aba"'
    assert verdict(processes, grammar) == ""
    follower = processes.open("grammar", grammar, (EOS,))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        refused = processes.verdict("grammar", 'root ::= "abab"')
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused == BUSY
    assert processes.accept(follower, (A,))
    assert allowed(processes, follower) == {B}
    processes.close_follower(follower)


def test_structures_nobody_follows_make_room_and_those_in_use_do_not() -> None:
    processes = Processes(zygote, most=2)
    try:
        texts = [f'root ::= "{letter}"' for letter in "ab"]
        assert [verdict(processes, text) for text in texts] == ["", ""]
        followers = [processes.open("grammar", text, (EOS,)) for text in texts]
        assert verdict(processes, 'root ::= "aab"') == BUSY
        processes.close_follower(followers[0])
        assert verdict(processes, 'root ::= "aab"') == ""
        assert allowed(processes, followers[1]) == {B}
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
