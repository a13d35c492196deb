"""Letting a version go while somebody promotes it: two refs, and no alias without its version."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from support.adapters import SUPPORT, ref
from support.desk import Desk
from support.hub import http
from support.hub.server import HubServer
from support.hub.state import Put

from hotshoe.adapter.errors import Conflict, NotFound, Refused, Tampered, VersionNotFound
from hotshoe.adapter.version import Version
from hotshoe.registry import Registry, hub_alias
from hotshoe.registry.cache import Cache
from hotshoe.registry.hub import Hub
from hotshoe.registry.hub_store import HubStore
from hotshoe.registry.hub_url import HubPlace
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.retention import Retention, collect
from hotshoe.registry.values import ALIAS_PATH, Marker, Target

OpenStepping = Callable[[int, Callable[[], object]], Registry]


class Stepping(Hub):
    """A Hub that does something before its request with a given number."""

    def __init__(self, url: str, token: str, number: int, act: Callable[[], object]) -> None:
        super().__init__(url, token)
        self._left = number
        self._act = act

    def _asking(self, repo: str, *, writing: bool = False) -> AbstractContextManager[None]:
        self._left -= 1
        if self._left == 0:
            self._act()
        return super()._asking(repo, writing=writing)


@pytest.fixture
def stepping(hub: HubServer, tmp_path: Path) -> OpenStepping:
    """Opens a registry that stops before its request with this number, to do something else."""

    def open_one(number: int, act: Callable[[], object]) -> Registry:
        place = HubPlace.parse(f"hub://acme?endpoint={hub.url}&poll_seconds=0")
        store = HubStore(place, hub=Stepping(hub.url, hub.token, number, act))
        known = Knowledge(store, Recollection(tmp_path / "stepping", store.url), fresh_seconds=0)
        return Registry(store, known, Cache(tmp_path / "stepping-cache"))

    return open_one


def promote(registry: Registry) -> None:
    # Refused by what was seen in time; that is as good as not promoted.
    with contextlib.suppress(VersionNotFound, Conflict):
        registry.promote(SUPPORT, "prod", 1)


def let_go(registry: Registry) -> None:
    with contextlib.suppress(Refused, NotFound):
        registry.store.retire(SUPPORT, 1)


@pytest.mark.parametrize(("first", "second"), [(promote, let_go), (let_go, promote)])
@pytest.mark.parametrize("set_before", [False, True])
def test_whoever_pauses_before_whichever_request_no_alias_is_without_its_version(
    hub: HubServer,
    open_desk: Callable[[], Desk],
    stepping: OpenStepping,
    first: Callable[[Registry], None],
    second: Callable[[Registry], None],
    set_before: bool,
) -> None:
    desk = open_desk()
    for seed in (1, 2):
        desk.publish(seed)
    if set_before:
        desk.registry.promote(SUPPORT, "prod", 2)
    start, ends = copy.deepcopy(hub.repos), set()
    for mine, theirs in itertools.product(range(1, 9), range(1, 7)):
        hub.repos.update(copy.deepcopy(start))
        interleaved(first, second, partial(stepping, mine), partial(stepping, theirs))
        desk.registry.verify()
        pointed = desk.registry.show(SUPPORT).aliases.get("prod")
        ends.add((pointed is not None and pointed.version.number == 1, "v1" in hub.repos[str(SUPPORT)].tags))
    assert ends == {(True, True), (False, False)}


def interleaved(
    first: Callable[[Registry], None],
    second: Callable[[Registry], None],
    open_first: Callable[[Callable[[], object]], Registry],
    open_second: Callable[[Callable[[], object]], Registry],
) -> None:
    """Begin one, stop it in the middle for the other, stop that too; end the one, then the other."""
    stopped, go_on, others = threading.Event(), threading.Event(), []

    def pause() -> None:
        stopped.set()
        assert go_on.wait(30)

    def begin() -> None:
        others.append(aside.submit(second, open_second(pause)))
        others[0].add_done_callback(lambda _: stopped.set())
        assert stopped.wait(30)

    with ThreadPoolExecutor(1) as aside:
        first(open_first(begin))
        go_on.set()
    for other in others:
        other.result()


def test_a_version_that_is_let_go_while_it_is_promoted_is_back_when_that_is_done(
    hub: HubServer, open_desk: Callable[[], Desk]
) -> None:
    mine, other = open_desk(), open_desk()
    for seed in (1, 2):
        mine.publish(seed)
    hub.interleave("POST", "/commit/prod", lambda: other.registry.store.retire(SUPPORT, 1))
    mine.registry.promote(SUPPORT, "prod", 1)
    assert other.registry.resolve(ref("acme/support@v1")) == other.registry.resolve(ref("acme/support@prod"))
    mine.registry.verify()


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda registry: len(registry.show(SUPPORT).versions), id="show"),
        pytest.param(lambda registry: registry.verify().entries, id="verify"),
    ],
)
def test_a_version_that_is_let_go_while_it_is_looked_at_is_no_alarm(
    hub: HubServer, open_desk: Callable[[], Desk], look: Callable[[Registry], int]
) -> None:
    mine, other = open_desk(), open_desk()
    for seed in (1, 2):
        mine.publish(seed)

    def let_go_before_the_second_look() -> None:
        hub.interleave("GET", "/refs", lambda: other.registry.store.retire(SUPPORT, 1))

    hub.interleave("GET", "/refs", let_go_before_the_second_look)
    assert look(mine.registry) == 1


def test_a_version_that_was_let_go_for_a_moment_is_listed(
    hub: HubServer, open_desk: Callable[[], Desk]
) -> None:
    mine, other = open_desk(), open_desk()
    first, _ = mine.publish(1), mine.publish(2)
    tags = hub.repos[str(SUPPORT)].tags

    def comes_back() -> None:
        tags["v1"] = first.commit

    def goes() -> None:
        del tags["v1"]
        hub.interleave("GET", "/commits/main", comes_back)

    hub.interleave("GET", "/refs", lambda: hub.interleave("GET", "/refs", goes))
    assert mine.registry.show(SUPPORT).versions[0].version == first
    assert other.registry.resolve(ref("acme/support@v1")) == first


def test_a_move_whose_last_look_fails_has_happened(
    hub: HubServer, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.publish(1)
    hub.interleave("POST", "/commit/prod", lambda: hub.fail("GET", "/refs", 403))
    move = desk.registry.promote(SUPPORT, "prod", 1)
    assert desk.registry.history(SUPPORT) == [move]
    assert "not looked at again" in caplog.text


def test_a_collection_whose_answer_is_lost_still_looks_who_promoted_meanwhile(
    hub: HubServer, desk: Desk
) -> None:
    first, _ = desk.publish(1), desk.publish(2)
    hub.bend("DELETE", "/tag/", http.lost)
    hub.interleave("DELETE", "/tag/", lambda: promote_and_die(hub, first))
    with pytest.raises(Refused, match="prod points to"):
        desk.registry.store.retire(SUPPORT, 1)
    assert desk.registry.resolve(ref("acme/support@v1")) == first


def test_a_collection_gives_back_what_deaths_took_from_aliases(hub: HubServer, desk: Desk) -> None:
    first, second = desk.publish(1), desk.publish(2)
    desk.publish(3)
    desk.registry.store.retire(SUPPORT, 1)
    promote_and_die(hub, first)
    with pytest.raises(Tampered, match=r"whose tag is gone.*the next `hotshoe gc --yes`"):
        desk.registry.verify()
    keep = Retention(last=1, days=0)
    assert collect(desk.registry, keep, dry_run=False).versions == (second,)
    assert desk.registry.resolve(ref("acme/support@v1")) == first
    desk.registry.verify()


def test_an_alias_written_by_hand_makes_no_version(hub: HubServer, desk: Desk) -> None:
    first, second, _ = desk.publish(1), desk.publish(2), desk.publish(3)
    desk.registry.store.retire(SUPPORT, 1)
    promote_and_die(hub, first)
    repo = hub.repos[str(SUPPORT)]
    head = repo.branches["prod"]
    true = repo.commits[head].tree[ALIAS_PATH].data.decode()
    for was, now in (
        ("v1", "v9"),
        (first.commit, second.commit),
        (first.commit, head),
        (first.manifest_sha256, second.manifest_sha256),
    ):
        repo.commit("prod", [Put(ALIAS_PATH, true.replace(was, now).encode())], title="by hand")
        desk.registry.store.sweep()
        assert sorted(repo.tags) == ["v2", "v3"]
        repo.branches["prod"] = head
    desk.registry.store.sweep()
    assert repo.tags["v1"] == first.commit


def promote_and_die(hub: HubServer, version: Version) -> None:
    """What a promoter does who dies before he looks whether the version was let go meanwhile."""
    at = datetime.now(UTC)
    marker = Marker("promote", (Target(version),), (), None, "ada", "go", "an id", at)
    hub_alias.point(Hub(hub.url, hub.token), SUPPORT, "prod", marker, None)
