"""Structures are followed in processes of their own, which take no more than they may."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import xgrammar
from support.grammars import AMBIGUOUS, ENDLESS
from support.structures import EOS, VOCABULARY, A, B, allowed, asked, child_of, key, verdict, zygote

from hotshoe.serve.structures.limits import MASK_SECONDS, SLOW_NICENESS
from hotshoe.serve.structures.processes import Processes, Zygote

pytestmark = pytest.mark.timeout(120)

STARVED_SECONDS = 900
"""For ten of the processor's time that a process gets only where nobody else wants it."""


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    found = Processes(zygote)
    yield found
    found.close()


def nicenesses() -> set[int]:
    """Of the processes below this one."""
    found: set[int] = set()
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(each.nice())
    return found


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
