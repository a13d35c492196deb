"""Which versions go, and that the others stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk

from hotshoe.adapter.errors import InvalidRequest, VersionNotFound
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import Move, Registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.local import LocalStore
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.retention import Retention, collect, expired
from hotshoe.registry.store import Refs
from hotshoe.registry.values import Publication

T = TypeVar("T")


@pytest.fixture
def five(desk: Desk) -> Desk:
    """Versions v1 to v5; prod was at v1, and is at v2 now."""
    for seed in range(1, 6):
        desk.publish(seed)
    for number in (1, 2):
        desk.registry.promote(SUPPORT, "prod", number)
    return desk


def gone(desk: Desk, retention: Retention, days_later: float = 0) -> list[int]:
    state, moves = desk.registry.show(SUPPORT), desk.registry.history(SUPPORT)
    now = datetime.now(UTC) + timedelta(days=days_later)
    return [version.number for version in expired(state, moves, retention, now)]


@pytest.mark.parametrize("days", [-1, float("nan"), float("inf"), 1e12])
def test_days_that_nobody_can_count_are_refused(days: float) -> None:
    with pytest.raises(InvalidRequest, match="36500 days"):
        Retention(days=days)


def test_the_newest_and_what_aliases_pointed_to_lately_are_kept(five: Desk) -> None:
    assert gone(five, Retention(last=1, days=30)) == [3, 4]
    assert gone(five, Retention(last=3, days=30)) == []


def test_what_an_alias_points_to_is_kept_however_old(five: Desk) -> None:
    assert gone(five, Retention(last=1, days=30), days_later=365) == [1, 3, 4]


def test_what_was_left_within_the_days_counts_as_pointed_to(five: Desk) -> None:
    five.registry.unset(SUPPORT, "prod")
    assert 2 not in gone(five, Retention(last=1, days=30), days_later=29)
    assert 2 in gone(five, Retention(last=1, days=30), days_later=31)


def test_what_was_pointed_to_until_lately_is_kept_however_long_ago_it_was_promoted(five: Desk) -> None:
    state, (first, second) = five.registry.show(SUPPORT), five.registry.history(SUPPORT)
    ago = replace(first, marker=replace(first.marker, at=first.at - timedelta(days=300)))
    kept = Retention(last=1, days=30)
    assert [each.number for each in expired(state, [ago, second], kept, datetime.now(UTC))] == [3, 4]


def test_a_dry_run_says_what_would_go_and_leaves_it(five: Desk) -> None:
    collected = collect(five.registry, Retention(last=1, days=30))
    assert [str(version) for version in collected.versions] == ["acme/support@v3", "acme/support@v4"]
    assert (collected.dry_run, collected.freed_bytes) == (True, 0)
    assert len(five.registry.show(SUPPORT).versions) == 5


def test_a_collection_frees_the_bytes_and_keeps_the_log(five: Desk) -> None:
    collected = collect(five.registry, Retention(last=1, days=30), dry_run=False)
    assert collected.freed_bytes > 8000
    with pytest.raises(VersionNotFound):
        five.registry.resolve(ref("acme/support@v3"))
    five.registry.fetch(five.registry.resolve(ref("acme/support@v1")))
    assert five.registry.verify().entries == 9
    assert collect(five.registry, Retention(last=1, days=30)).versions == ()


class Busy(Registry):
    """A registry in which somebody promotes v3 right after its history was looked at."""

    def __init__(self, opened: Registry) -> None:
        vars(self).update(vars(opened))

    def history(self, name: AdapterName, alias: str | None = None) -> list[Move]:
        before = super().history(name, alias)
        self.promote(name, "staging", 3)
        return before


def test_what_is_promoted_during_a_collection_stays_and_the_others_go(five: Desk) -> None:
    collected = collect(Busy(five.registry), Retention(last=1, days=30), dry_run=False)
    assert [version.number for version in collected.versions] == [4]
    assert collected.freed_bytes > 4000
    five.registry.fetch(five.registry.resolve(ref("acme/support@staging")))


class Hasty(LocalStore):
    """A store in which somebody lets v1 go right after the refs, or the publications, were read."""

    def __init__(self, folder: Path, after: str) -> None:
        super().__init__(folder)
        self._after = after

    def refs(self, adapter: AdapterName) -> Refs:
        return self._letting_go("refs", super().refs(adapter))

    def publications(self, adapter: AdapterName) -> Mapping[str, Publication]:
        return self._letting_go("publications", super().publications(adapter))

    def _letting_go(self, what: str, told: T) -> T:
        if what == self._after:
            self._after = ""
            self.retire(SUPPORT, 1)
            self.sweep()
        return told


@pytest.mark.parametrize("after", ["refs", "publications"])
def test_a_version_that_is_let_go_while_it_is_listed_is_no_alarm(
    desk: Desk, tmp_path: Path, after: str
) -> None:
    desk.publish(1), desk.publish(2)
    hasty = Hasty(Path(desk.registry.url), after)
    known = Knowledge(hasty, Recollection(tmp_path / "known", hasty.url), fresh_seconds=0)
    with Registry(hasty, known, Cache(tmp_path / "other-cache")) as registry:
        assert [state.version.number for state in registry.show(SUPPORT).versions] == [2]


def test_keeping_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Retention(last=0)
