"""Splits, the choice among them, and walking back; all pure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.adapters import SUPPORT

from hotshoe.adapter.errors import AliasNotFound, InvalidReference, InvalidRequest, Refused
from hotshoe.adapter.version import Version
from hotshoe.registry.aliases import choose, move_at, parse_split, previous_targets
from hotshoe.registry.values import Marker, Move, Target

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def target(number: int, weight: int = 1) -> Target:
    return Target(Version(SUPPORT, number, f"{number:040x}", f"{number:064x}"), weight)


def moves(*steps: str) -> list[Move]:
    """`1` promotes v1, `<1` rolls back to v1, `-` unsets; a minute lies between two moves."""
    made = []
    for minute, step in enumerate(steps):
        action = "rollback" if step.startswith("<") else "unset" if step == "-" else "promote"
        to = () if step == "-" else (target(int(step.removeprefix("<"))),)
        marker = Marker(action, to, (), None, "ada", "", str(minute), START + timedelta(minutes=minute))
        made.append(Move(SUPPORT, "prod", f"{minute:040x}", marker))
    return made


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["1", "2"], 1),
        (["1", "2", "3"], 2),
        (["1", "2", "3", "<2"], 1),
        (["1", "2", "<1", "3"], 1),
        (["1", "2", "<1", "3", "<1", "2"], 1),
        (["1", "2", "1"], 2),
        (["1", "2", "1", "<2"], 1),
        (["1", "-"], 1),
        (["1", "2", "-"], 2),
        (["1", "2", "-", "3"], 2),
        (["1", "2", "2"], 1),
    ],
)
def test_a_rollback_walks_back_and_not_to_and_fro(steps: list[str], expected: int) -> None:
    assert previous_targets(moves(*steps), frozenset({1, 2, 3})) == (target(expected),)


@pytest.mark.parametrize("steps", [[], ["1"], ["1", "2", "<1"], ["-", "1"]])
def test_there_is_an_end_to_walking_back(steps: list[str]) -> None:
    with pytest.raises(Refused, match="nothing to roll back to"):
        previous_targets(moves(*steps), frozenset({1, 2, 3}))


def test_walking_back_passes_over_versions_that_are_gone() -> None:
    assert previous_targets(moves("1", "2", "3"), frozenset({1, 3})) == (target(1),)


def test_what_an_alias_pointed_to_is_told_for_any_time() -> None:
    history = moves("1", "2", "-", "3")
    assert move_at(history, START).to == (target(1),)
    assert move_at(history, START + timedelta(seconds=90)).to == (target(2),)
    assert move_at(history, START + timedelta(days=9)).to == (target(3),)
    for nowhere in (START - timedelta(seconds=1), START + timedelta(seconds=150)):
        with pytest.raises(AliasNotFound, match="acme/support@prod pointed to nothing at 2026-11-01"):
            move_at(history, nowhere)


def test_a_split_is_parsed_heaviest_first() -> None:
    assert parse_split("canary=v8:10,v7:90") == ("canary", {7: 90, 8: 10})
    assert list(parse_split("canary=v8:10, v7:90")[1]) == [7, 8]


@pytest.mark.parametrize(
    "text", ["canary", "canary=", "canary=v8", "canary=v8:0", "canary=8:1", "canary=v1:1,v1:2", "c=v1:99999"]
)
def test_what_is_no_split_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_split(text)


def test_a_split_over_too_many_versions_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not to 9"):
        parse_split("canary=" + ",".join(f"v{number}:1" for number in range(1, 10)))


def test_a_split_of_an_alias_with_a_bad_name_is_refused() -> None:
    with pytest.raises(InvalidReference):
        parse_split("v7=v8:10")


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 100), min_size=2, max_size=5), st.integers())
def test_weights_decide_how_many_sessions_go_where(weights: list[int], salt: int) -> None:
    targets = [target(number, weight) for number, weight in enumerate(weights, start=1)]
    chosen = Counter(choose(targets, f"{salt}-{i}").version.number for i in range(2000))
    for each in targets:
        assert chosen[each.version.number] / 2000 == pytest.approx(each.weight / sum(weights), abs=0.08)


def test_only_the_sessions_that_must_move_do_when_a_canary_grows() -> None:
    before, after = [target(7, 90), target(8, 10)], [target(7, 50), target(8, 50)]
    sessions = [str(i) for i in range(500)]
    assert not [
        s for s in sessions if choose(before, s).version.number == 8 and choose(after, s).version.number == 7
    ]
