"""Moving aliases, the same in every store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk

from hotshoe.adapter.errors import (
    AliasNotFound,
    Conflict,
    InvalidReference,
    InvalidRequest,
    Refused,
    VersionNotFound,
)
from hotshoe.registry import UNSET, targets_text
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.promotion import Intent, move_alias
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.store import Refs, Store
from hotshoe.registry.values import Move, Target


@pytest.fixture
def three(desk: Desk) -> Desk:
    """A registry with acme/support@v1, v2 and v3, and no alias."""
    for seed in (1, 2, 3):
        desk.publish(seed)
    return desk


def prod(desk: Desk) -> int:
    return desk.registry.resolve(ref("acme/support@prod")).number


def test_an_alias_points_where_it_was_moved_to(three: Desk) -> None:
    three.registry.promote(SUPPORT, "prod", 2)
    assert prod(three) == 2
    assert three.registry.resolve(ref("acme/support")).number == 2


def test_a_move_says_who_when_why_from_where_and_to_where(three: Desk) -> None:
    three.registry.promote(SUPPORT, "prod", 1)
    move = three.registry.promote(SUPPORT, "prod", 2, actor="ada", reason="better", promotion_id="p-1")
    assert (move.actor, move.reason, move.promotion_id, move.action) == ("ada", "better", "p-1", "promote")
    assert (targets_text(move.before), targets_text(move.to)) == ("v1", "v2")
    assert three.registry.history(SUPPORT, "prod")[-1] == move
    assert three.registry.show(SUPPORT).aliases["prod"].etag == move.etag


def test_an_etag_that_is_still_true_lets_the_move_pass(three: Desk) -> None:
    first = three.registry.promote(SUPPORT, "prod", 1, expected=UNSET)
    assert three.registry.promote(SUPPORT, "prod", 2, expected=first.etag).etag != first.etag


def test_an_etag_that_is_not_true_any_more_is_a_conflict_that_says_what_is(three: Desk) -> None:
    first = three.registry.promote(SUPPORT, "prod", 1)
    second = three.registry.promote(SUPPORT, "prod", 2)
    with pytest.raises(Conflict, match=second.etag) as caught:
        three.registry.promote(SUPPORT, "prod", 3, expected=first.etag)
    assert caught.value.details["etag"] == second.etag
    assert caught.value.details["target"] == "v2"
    assert prod(three) == 2


def test_an_alias_that_is_expected_to_be_new_must_be_new(three: Desk) -> None:
    three.registry.promote(SUPPORT, "prod", 1)
    with pytest.raises(Conflict, match="is at v1"):
        three.registry.promote(SUPPORT, "prod", 2, expected=UNSET)


def test_an_etag_for_an_alias_that_never_was_is_a_conflict(three: Desk) -> None:
    with pytest.raises(Conflict, match="is at nothing"):
        three.registry.promote(SUPPORT, "prod", 1, expected="f" * 40)


def test_of_24_racing_promoters_one_wins_and_23_have_a_conflict(open_desk: Callable[[], Desk]) -> None:
    desks = [open_desk() for _ in range(6)]
    for seed in (1, 2, 3):
        desks[0].publish(seed)
    start = desks[0].registry.promote(SUPPORT, "prod", 1).etag

    def race(i: int) -> str:
        try:
            desks[i % 6].registry.promote(SUPPORT, "prod", 2 + i % 2, expected=start, reason=str(i))
        except Conflict:
            return "conflict"
        return "won"

    with ThreadPoolExecutor(24) as pool:
        outcomes = Counter(pool.map(race, range(24)))
    assert outcomes == {"won": 1, "conflict": 23}
    assert len(desks[0].registry.history(SUPPORT, "prod")) == 2


def test_promoters_that_expect_nothing_all_get_through_and_none_is_lost(
    open_desk: Callable[[], Desk],
) -> None:
    desks = [open_desk() for _ in range(4)]
    for seed in (1, 2):
        desks[0].publish(seed)
    with ThreadPoolExecutor(8) as pool:
        moves = list(
            pool.map(
                lambda i: desks[i % 4].registry.promote(SUPPORT, "prod", 1 + i % 2, reason=str(i)), range(8)
            )
        )
    history = desks[0].registry.history(SUPPORT, "prod")
    assert {move.etag for move in moves} == {move.etag for move in history}
    for earlier, later in pairwise(history):
        assert later.marker.previous == earlier.etag
        assert later.before == earlier.to


def test_a_promotion_sent_twice_happens_once(three: Desk) -> None:
    first = three.registry.promote(SUPPORT, "prod", 1, promotion_id="deploy-7")
    three.registry.promote(SUPPORT, "prod", 2)
    again = three.registry.promote(SUPPORT, "prod", 1, promotion_id="deploy-7", expected="whatever it was")
    assert again == first
    assert prod(three) == 2


def test_a_promotion_that_found_the_alias_there_already_still_happens_once(three: Desk) -> None:
    three.registry.promote(SUPPORT, "prod", 1)
    first = three.registry.promote(SUPPORT, "prod", 1, promotion_id="deploy-7")
    three.registry.promote(SUPPORT, "prod", 2)
    assert three.registry.promote(SUPPORT, "prod", 1, promotion_id="deploy-7") == first
    assert prod(three) == 2
    assert targets_text(three.registry.rollback(SUPPORT, "prod").to) == "v1"


def test_a_promotion_id_cannot_be_used_for_another_move(three: Desk) -> None:
    three.registry.promote(SUPPORT, "prod", 1, promotion_id="deploy-7")
    with pytest.raises(Conflict, match="that of another move, promote of acme/support@prod to v1"):
        three.registry.promote(SUPPORT, "prod", 3, promotion_id="deploy-7")
    with pytest.raises(Conflict, match="needs an id of its own"):
        three.registry.unset(SUPPORT, "prod", promotion_id="deploy-7")
    assert prod(three) == 1


def test_a_promoter_who_was_held_up_is_written_down_when_his_move_happens(
    three: Desk, store: Store, tmp_path: Path
) -> None:
    three.registry.promote(SUPPORT, "prod", 1)
    between: list[Move] = []

    def overtaken(refs: Refs) -> tuple[Target, ...]:
        if not between:
            between.append(three.registry.promote(SUPPORT, "prod", 2))
        return (Target(three.registry.resolve(ref("acme/support@v3"))),)

    known = Knowledge(store, Recollection(tmp_path / "known", store.url), fresh_seconds=0)
    last = move_alias(store, known, SUPPORT, "prod", Intent("promote", None, "ada", "", None), overtaken)
    assert [targets_text(move.to) for move in three.registry.history(SUPPORT)] == ["v1", "v2", "v3"]
    assert three.registry.at(SUPPORT, "prod", between[0].at).to == between[0].to
    assert last.at >= between[0].at


def test_promoting_to_where_it_points_already_is_not_a_move(three: Desk) -> None:
    first = three.registry.promote(SUPPORT, "prod", 1)
    assert three.registry.promote(SUPPORT, "prod", 1) == first
    assert len(three.registry.history(SUPPORT)) == 1


def test_a_version_that_is_not_there_cannot_be_promoted(three: Desk) -> None:
    with pytest.raises(VersionNotFound, match="v9"):
        three.registry.promote(SUPPORT, "prod", 9)
    with pytest.raises(AliasNotFound):
        three.registry.resolve(ref("acme/support@prod"))


def test_a_store_points_no_alias_to_a_commit_that_it_does_not_have(three: Desk, store: Store) -> None:
    move = three.registry.promote(SUPPORT, "prod", 1)
    (there,) = move.to
    stranger = replace(there, version=replace(there.version, commit="f" * 40))
    for targets in ((stranger,), (there, stranger)):
        marker = replace(move.marker, to=targets, promotion_id="another")
        with pytest.raises(Conflict, match=r"v1 is not in .* any more with commit ffffffffffff"):
            store.move_alias(SUPPORT, "prod", marker, expected=move.etag)
    assert three.registry.history(SUPPORT) == [move]


@pytest.mark.parametrize("alias", ["main", "v7", "Prod", "a/b", ""])
def test_a_name_that_no_alias_may_have_is_refused(three: Desk, alias: str) -> None:
    with pytest.raises(InvalidReference):
        three.registry.promote(SUPPORT, alias, 1)


def test_an_alias_that_is_not_there_is_named_with_those_that_are(three: Desk) -> None:
    three.registry.promote(SUPPORT, "staging", 1)
    three.registry.promote(SUPPORT, "canary", 1)
    with pytest.raises(AliasNotFound, match="has no alias 'prod'; it has: canary, staging"):
        three.registry.resolve(ref("acme/support"))


def test_a_rollback_goes_back_and_a_second_one_further(three: Desk) -> None:
    for number in (1, 2, 3):
        three.registry.promote(SUPPORT, "prod", number)
    assert three.registry.rollback(SUPPORT, "prod", reason="worse").action == "rollback"
    assert prod(three) == 2
    three.registry.rollback(SUPPORT, "prod")
    assert prod(three) == 1
    with pytest.raises(Refused, match="nothing to roll back to: it points to v1"):
        three.registry.rollback(SUPPORT, "prod")


def test_a_promotion_after_a_rollback_can_be_rolled_back_too(three: Desk) -> None:
    for number in (1, 2):
        three.registry.promote(SUPPORT, "prod", number)
    three.registry.rollback(SUPPORT, "prod")
    three.registry.promote(SUPPORT, "prod", 3)
    three.registry.rollback(SUPPORT, "prod")
    assert prod(three) == 1


def test_a_rollback_sent_twice_happens_once(three: Desk) -> None:
    for number in (1, 2, 3):
        three.registry.promote(SUPPORT, "prod", number)
    first = three.registry.rollback(SUPPORT, "prod", promotion_id="undo-1")
    assert three.registry.rollback(SUPPORT, "prod", promotion_id="undo-1") == first
    assert prod(three) == 2


def test_a_rollback_of_an_alias_that_never_was_names_those_that_are(three: Desk) -> None:
    with pytest.raises(AliasNotFound, match="none yet"):
        three.registry.rollback(SUPPORT, "prod")


def test_an_unset_alias_points_nowhere_and_keeps_its_history(three: Desk) -> None:
    three.registry.promote(SUPPORT, "prod", 1)
    three.registry.unset(SUPPORT, "prod", reason="withdrawn")
    with pytest.raises(AliasNotFound):
        three.registry.resolve(ref("acme/support@prod"))
    assert three.registry.show(SUPPORT).aliases == {}
    assert [move.action for move in three.registry.history(SUPPORT, "prod")] == ["promote", "unset"]


def test_an_unset_alias_can_be_rolled_back_or_set_anew(three: Desk) -> None:
    three.registry.promote(SUPPORT, "prod", 1)
    three.registry.unset(SUPPORT, "prod")
    three.registry.rollback(SUPPORT, "prod")
    assert prod(three) == 1
    gone = three.registry.unset(SUPPORT, "prod")
    three.registry.promote(SUPPORT, "prod", 2, expected=UNSET)
    with pytest.raises(Conflict):
        three.registry.promote(SUPPORT, "prod", 3, expected=gone.etag)


def test_a_split_alias_keeps_every_session_on_its_side(three: Desk) -> None:
    three.registry.split(SUPPORT, "canary", {3: 20, 2: 80})
    sides = {
        s: three.registry.resolve(ref("acme/support@canary"), session=s).number for s in map(str, range(300))
    }
    again = {s: three.registry.resolve(ref("acme/support@canary"), session=s).number for s in sides}
    assert sides == again
    assert 30 < Counter(sides.values())[3] < 90
    assert targets_text(three.registry.show(SUPPORT).aliases["canary"].targets) == "v2:80,v3:20"


def test_a_split_without_a_session_reaches_both_sides(three: Desk) -> None:
    three.registry.split(SUPPORT, "canary", {3: 50, 2: 50})
    assert {three.registry.resolve(ref("acme/support@canary")).number for _ in range(60)} == {2, 3}


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("reason", "x" * 4001),
        ("reason", "half \ud800 of a letter"),
        ("actor", "x" * 201),
        ("actor", "\udcff"),
        ("promotion_id", "x" * 201),
        ("promotion_id", "\udcff"),
    ],
)
def test_words_that_no_log_could_keep_are_refused_by_name(three: Desk, what: str, text: str) -> None:
    words: dict[str, Any] = {what: text}
    with pytest.raises(InvalidRequest, match=f"the {what.replace('_', ' ')} "):
        three.registry.promote(SUPPORT, "prod", 1, **words)
    three.registry.promote(SUPPORT, "prod", 1, reason="größer\n\x1b[31m\u202e", actor="Ada Lovelace")
    assert three.registry.history(SUPPORT, "prod")[-1].reason == "größer\n\x1b[31m\u202e"


def test_aliases_move_apart_from_each_other(three: Desk) -> None:
    three.registry.promote(SUPPORT, "prod", 1)
    three.registry.promote(SUPPORT, "staging", 3)
    assert prod(three) == 1
    assert [move.alias for move in three.registry.history(SUPPORT)] == ["prod", "staging"]
