"""When to look at which adapter, and what is new to whom; with a clock that the test moves."""

from __future__ import annotations

from collections import Counter

import pytest

from hotshoe.adapter.errors import (
    AdapterNotFound,
    HotshoeError,
    InvalidRequest,
    PermissionDenied,
    RegistryUnavailable,
)
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.hub_watch import Lookout, Seen, differences, interval
from hotshoe.registry.store import Refs
from hotshoe.registry.values import Change

SUPPORT, LEGAL = AdapterName("acme", "support"), AdapterName("acme", "legal")


class Sky:
    """What there is to see, how often somebody looked, and what time it is."""

    def __init__(self) -> None:
        self.refs: dict[AdapterName, Refs] = {}
        self.faults: dict[AdapterName, HotshoeError] = {}
        self.looks: Counter[AdapterName] = Counter()
        self.surveys = 0
        self.now = 1000.0

    def put(self, adapter: AdapterName, newest: int, **aliases: str) -> None:
        self.refs[adapter] = Refs(adapter, {n: f"c{n}" for n in range(1, newest + 1)}, aliases)

    def survey(self) -> list[AdapterName]:
        self.surveys += 1
        return sorted(self.refs)

    def look(self, adapter: AdapterName) -> Refs:
        self.looks[adapter] += 1
        if adapter in self.faults:
            raise self.faults[adapter]
        if adapter not in self.refs:
            raise AdapterNotFound(f"{adapter} is not there")
        return self.refs[adapter]


@pytest.fixture
def sky() -> Sky:
    sky = Sky()
    sky.put(SUPPORT, 1, prod="e1")
    sky.put(LEGAL, 1)
    return sky


@pytest.fixture
def lookout(sky: Sky) -> Lookout:
    return Lookout(sky.look, sky.survey, poll_seconds=60, clock=lambda: sky.now)


@pytest.mark.parametrize(
    ("poll_seconds", "watched", "seconds"),
    [(60, 1, 60), (60, 60, 60), (60, 200, 200), (0, 200, 0), (5, 100, 100)],
)
def test_many_adapters_are_looked_at_more_rarely_each(
    poll_seconds: float, watched: int, seconds: float
) -> None:
    assert interval(poll_seconds, watched) == seconds


def test_versions_come_before_the_aliases_that_point_to_them() -> None:
    before, now = Seen(1, {"prod": "e1", "old": "e0"}), Seen(3, {"prod": "e2", "canary": "e3"})
    assert list(differences(SUPPORT, before, now)) == [
        Change(SUPPORT, "", "v2"),
        Change(SUPPORT, "", "v3"),
        Change(SUPPORT, "canary", "e3"),
        Change(SUPPORT, "prod", "e2"),
    ]


def test_nothing_is_asked_twice_within_the_interval(sky: Sky, lookout: Lookout) -> None:
    _, cursor = lookout.changes(None, [SUPPORT])
    sky.put(SUPPORT, 2, prod="e2")
    assert lookout.changes(cursor, [SUPPORT]) == ([], cursor)
    sky.now += 61
    changes, cursor = lookout.changes(cursor, [SUPPORT])
    assert changes == [Change(SUPPORT, "", "v2"), Change(SUPPORT, "prod", "e2")]
    assert sky.looks[SUPPORT] == 2


def test_a_hint_is_looked_into_at_once_and_only_it(sky: Sky, lookout: Lookout) -> None:
    _, cursor = lookout.changes(None, [SUPPORT, LEGAL])
    sky.put(LEGAL, 2)
    lookout.hint(LEGAL)
    assert lookout.changes(cursor, [SUPPORT, LEGAL])[0] == [Change(LEGAL, "", "v2")]
    assert (sky.looks[SUPPORT], sky.looks[LEGAL]) == (1, 2)


def test_two_owners_of_cursors_are_both_told(sky: Sky, lookout: Lookout) -> None:
    _, mine = lookout.changes(None, [SUPPORT])
    sky.put(SUPPORT, 2, prod="e1")
    lookout.hint(SUPPORT)
    assert lookout.changes(mine, [SUPPORT])[0] == [Change(SUPPORT, "", "v2")]
    assert lookout.changes(mine, [SUPPORT])[0] == [Change(SUPPORT, "", "v2")]


def test_a_cursor_outlives_the_process(sky: Sky, lookout: Lookout) -> None:
    _, cursor = lookout.changes(None, [SUPPORT])
    sky.put(SUPPORT, 2, prod="e1")
    later = Lookout(sky.look, sky.survey, poll_seconds=60, clock=lambda: sky.now)
    assert later.changes(cursor, [SUPPORT])[0] == [Change(SUPPORT, "", "v2")]


def test_adapters_not_asked_for_stay_where_the_cursor_left_them(sky: Sky, lookout: Lookout) -> None:
    _, cursor = lookout.changes(None, [SUPPORT, LEGAL])
    sky.put(LEGAL, 2)
    sky.now += 61
    _, cursor = lookout.changes(cursor, [SUPPORT])
    assert lookout.changes(cursor, [LEGAL])[0] == [Change(LEGAL, "", "v2")]


def test_who_watches_everything_is_told_of_new_adapters_and_asks_rarely_which_there_are(
    sky: Sky, lookout: Lookout
) -> None:
    _, cursor = lookout.changes(None, None)
    new = AdapterName("acme", "new")
    sky.put(new, 1)
    assert lookout.changes(cursor, None) == ([], cursor)
    assert sky.surveys == 1
    lookout.hint(new)
    assert lookout.changes(cursor, None)[0] == [Change(new, "", "v1")]
    assert sky.surveys == 2


def test_to_watch_nothing_costs_nothing(sky: Sky, lookout: Lookout) -> None:
    assert lookout.changes(None, []) == ([], "{}")
    assert sky.looks.total() == sky.surveys == 0


def test_a_hint_that_comes_during_a_look_is_for_the_next_one(sky: Sky) -> None:
    def look(adapter: AdapterName) -> Refs:
        refs = sky.look(adapter)
        if sky.looks[adapter] == 2:
            sky.put(adapter, 2)
            watcher.hint(adapter)
        return refs

    watcher = Lookout(look, sky.survey, poll_seconds=600, clock=lambda: sky.now)
    _, cursor = watcher.changes(None, [SUPPORT])
    watcher.hint(SUPPORT)
    changes, cursor = watcher.changes(cursor, [SUPPORT])
    assert changes == []
    assert watcher.changes(cursor, [SUPPORT])[0] == [Change(SUPPORT, "", "v2")]


def test_an_adapter_that_is_gone_for_a_while_is_no_change_and_only_what_moved_meanwhile_is(
    sky: Sky, lookout: Lookout
) -> None:
    _, cursor = lookout.changes(None, [SUPPORT])
    refs = sky.refs.pop(SUPPORT)
    sky.now += 61
    changes, cursor = lookout.changes(cursor, [SUPPORT])
    assert changes == []
    sky.refs[SUPPORT] = refs
    sky.now += 61
    changes, cursor = lookout.changes(cursor, [SUPPORT])
    assert changes == []
    del sky.refs[SUPPORT]
    sky.now += 61
    _, cursor = lookout.changes(cursor, [SUPPORT])
    sky.put(SUPPORT, 2, prod="e2")
    sky.now += 61
    assert lookout.changes(cursor, [SUPPORT])[0] == [Change(SUPPORT, "", "v2"), Change(SUPPORT, "prod", "e2")]


def test_an_adapter_that_may_not_be_read_holds_up_no_other(
    sky: Sky, lookout: Lookout, caplog: pytest.LogCaptureFixture
) -> None:
    _, cursor = lookout.changes(None, [SUPPORT, LEGAL])
    sky.faults[LEGAL] = PermissionDenied("acme/legal is not for you")
    for newest in (2, 3):
        sky.now += 61
        sky.put(SUPPORT, newest, prod="e1")
        changes, cursor = lookout.changes(cursor, [SUPPORT, LEGAL])
        assert changes == [Change(SUPPORT, "", f"v{newest}")]
        lookout.changes(cursor, [SUPPORT, LEGAL])
    assert sky.looks[LEGAL] == 3, "once for each interval, not for each call"
    assert caplog.text.count("acme/legal is not for you") == 1
    del sky.faults[LEGAL]
    sky.put(LEGAL, 2)
    sky.now += 61
    assert lookout.changes(cursor, [SUPPORT, LEGAL])[0] == [Change(LEGAL, "", "v2")]


def test_an_adapter_that_could_never_be_seen_is_told_of_when_it_can(sky: Sky, lookout: Lookout) -> None:
    sky.faults[SUPPORT] = RegistryUnavailable("no route")
    _, cursor = lookout.changes(None, [SUPPORT, LEGAL])
    sky.faults.clear()
    assert lookout.changes(cursor, [SUPPORT, LEGAL])[0] == []
    sky.now += 61
    changes, _ = lookout.changes(cursor, [SUPPORT, LEGAL])
    assert changes == [Change(SUPPORT, "", "v1"), Change(SUPPORT, "prod", "e1")]


def test_a_hub_that_does_not_answer_at_all_is_told_as_such_each_time(
    sky: Sky, lookout: Lookout, caplog: pytest.LogCaptureFixture
) -> None:
    _, cursor = lookout.changes(None, [SUPPORT, LEGAL])
    sky.faults = dict.fromkeys((SUPPORT, LEGAL), RegistryUnavailable("no route"))
    sky.now += 61
    for _ in range(3):
        with pytest.raises(RegistryUnavailable, match="no route"):
            lookout.changes(cursor, [SUPPORT, LEGAL])
    assert sky.looks[SUPPORT] == 2
    assert not caplog.records


@pytest.mark.parametrize("cursor", ["", "17", "[]", '{"acme/support": 1}', "{"])
def test_a_cursor_from_elsewhere_is_refused(lookout: Lookout, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="begin with none"):
        lookout.changes(cursor, [SUPPORT])
