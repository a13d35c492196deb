"""The soak's own eyes: what is wrong must be seen, or a soak shows nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from soak.asks import LEFT, OK, Ask
from soak.conditions import ENGINE_DOWN, Conditions
from soak.judge import What, judge
from soak.load import HUNG, Seen
from soak.oracle import BASE, Oracle
from soak.record import Record
from soak.verdict import Remains, judge_all
from soak.watch import MIB, growth
from soak.world import Line, Pointing, World

from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry import BaseModel, Target
from hotshoe.serve.ledger import open_ledger
from hotshoe.wire.values import Resolved

NAME = AdapterName("acme", "support")
OLD = Version(NAME, 1, "1" * 40, "a" * 64)
NEW = Version(NAME, 2, "2" * 40, "b" * 64)
TINY = Base("tiny", "", "0" * 64)
ANSWERS = {BASE: ((1, 2, 3),), "one": ((4, 5, 6),), "two": ((7, 8, 9),)}
BY_ALIAS = Ask("by alias", "acme", "hs_acme", question=0, tokens=3, adapter="acme/support@prod")
CLEAN = Remains(0, (), (), 0, (), (), 0.0, 0.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """acme/support: v1 until 10 s, v2 from 9 s on."""
    registry: Any = None  # Nothing is published here.
    line = Line(NAME, {"v1": OLD, "v2": NEW})
    line.pointings = [Pointing((Target(OLD),), 0, 10), Pointing((Target(NEW),), 9)]
    world = World(tmp_path, BaseModel(tmp_path, TINY), registry, Oracle(((5,),), ANSWERS), iter(()))
    world.lines[NAME] = line
    world.voices = {OLD.manifest_sha256: "one", NEW.manifest_sha256: "two"}
    return world


def resolved(version: Version) -> Resolved:
    return Resolved(TINY, str(NAME), version.tag, version.commit, version.manifest_sha256)


def seen(version: Version, *tokens: int, ask: Ask = BY_ALIAS, outcome: str = OK, at: float = 20) -> Seen:
    return Seen(ask, at, at + 1, outcome, resolved(version), [*tokens])


def faults(one: Seen, world: World, conditions: Conditions | None = None) -> list[What]:
    return [fault.what for fault in judge(one, world, conditions or Conditions())]


def test_the_answer_of_the_version_that_the_alias_names_is_right(world: World) -> None:
    assert faults(seen(NEW, 7, 8, 9), world) == []
    assert faults(seen(OLD, 4, 5, 6, at=8.5), world) == []


def test_the_beginning_of_it_is_right_for_who_left(world: World) -> None:
    leaving = replace(BY_ALIAS, may=frozenset({LEFT}))
    assert faults(seen(NEW, 7, 8, ask=leaving, outcome=LEFT), world) == []
    assert faults(seen(NEW, 7, 9, ask=leaving, outcome=LEFT), world) == [What.WRONG]


@pytest.mark.parametrize(
    "wrong",
    [
        seen(NEW, 7, 8, 1),  # Another token.
        seen(NEW, 4, 5, 6),  # Another version's tokens.
        seen(NEW, 7, 8),  # Not all of it.
        seen(OLD, 4, 5, 6),  # The version of before, long after the move.
        seen(NEW, 7, 8, 9, at=1),  # The next version, before the move.
        seen(replace(NEW, commit="3" * 40), 7, 8, 9),  # An identity that nobody published.
        Seen(replace(BY_ALIAS, adapter=""), 1, 2, OK, resolved(NEW), [7, 8, 9]),  # Not what was asked for.
        Seen(BY_ALIAS, 1, 2, OK, None, [7, 8, 9]),  # Nobody's.
    ],
)
def test_a_wrong_answer_is_seen(world: World, wrong: Seen) -> None:
    assert faults(wrong, world) == [What.WRONG]


def test_a_session_that_changes_sides_is_seen(world: World) -> None:
    world.lines[NAME].pointings = [Pointing((Target(OLD), Target(NEW)), 0)]
    in_session = [replace(BY_ALIAS, session=f"user {number}") for number in range(20)]
    found = [
        (faults(seen(OLD, 4, 5, 6, ask=ask), world), faults(seen(NEW, 7, 8, 9, ask=ask), world))
        for ask in in_session
    ]
    assert all(sorted(map(len, pair)) == [0, 1] for pair in found)
    assert any(a != b for a, b in pairwise(found))


def test_a_hang_and_an_error_that_nothing_explains_are_seen(world: World) -> None:
    assert faults(Seen(BY_ALIAS, 1, 2, HUNG), world) == [What.HANG]
    assert faults(Seen(BY_ALIAS, 1, 2, "INTERNAL"), world) == [What.ERROR]
    assert faults(Seen(BY_ALIAS, 1, 2, "ENGINE_UNAVAILABLE"), world) == [What.ERROR]


def test_an_error_is_explained_only_while_its_cause_lasts(world: World) -> None:
    conditions, now = Conditions(), time.monotonic()
    with conditions.expecting(ENGINE_DOWN):
        pass
    during = Seen(BY_ALIAS, now - 1, now + 1, "ENGINE_UNAVAILABLE")
    after = Seen(BY_ALIAS, now + 100, now + 101, "ENGINE_UNAVAILABLE")
    assert faults(during, world, conditions) == []
    assert faults(after, world, conditions) == [What.ERROR]
    assert faults(replace(during, outcome="INTERNAL"), world, conditions) == [What.ERROR]


async def test_an_effect_that_does_not_come_is_seen(world: World) -> None:
    record = Record()
    await record.take(seen(NEW, 7, 8, 9), world)
    assert all(check.kept for check in judge_all(record, CLEAN))
    with record.doing("something"):
        async with asyncio.timeout(0):
            await asyncio.sleep(1)
    with record.doing("something else"):
        raise ValueError("odd")
    assert [fault.what for fault in record.faults] == [What.HANG, What.CHAOS]
    assert [check.promise for check in judge_all(record, CLEAN) if not check.kept] == [
        "no hang",
        "what was done had its effect",
    ]


async def test_tokens_that_the_ledger_lacks_are_seen(world: World) -> None:
    record = Record()
    await record.take(seen(NEW, 7, 8, 9), world)
    with open_ledger(world.ledger):
        pass
    assert record.unbooked(world.ledger) == ["3 tokens of acme acme/support v2"]


@pytest.mark.parametrize(
    "remains",
    [
        replace(CLEAN, in_engine=1),
        replace(CLEAN, leases=("acme/support@v1: 1",)),
        replace(CLEAN, stuck=("acme/support@prod",)),
        replace(CLEAN, exit_code=1),
        replace(CLEAN, orphans=("123 python",)),
        replace(CLEAN, unbooked=("3 tokens of acme acme/support v1",)),
        replace(CLEAN, server_growth=100.0),
        replace(CLEAN, engine_growth=100.0),
    ],
)
async def test_what_is_left_behind_is_seen(world: World, remains: Remains) -> None:
    record = Record()
    await record.take(seen(NEW, 7, 8, 9), world)
    assert sum(not check.kept for check in judge_all(record, remains)) == 1


def test_growth_is_told_in_mebibytes_a_minute() -> None:
    assert growth([(second, 500 * MIB + second * MIB // 10) for second in range(60)]) == pytest.approx(6)
    assert growth([(second, 500 * MIB) for second in range(60)]) == pytest.approx(0)
    assert growth([(0, 1), (1, 1000)]) == 0
