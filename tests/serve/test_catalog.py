"""References to versions: from memory, and true to a real registry that moves."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.adapters import LEGAL, SUPPORT, make_adapter, make_base, ref
from support.outage import FailingStore
from support.recorder import Recorder, Shelves, until_idle
from support.waiting import PATIENCE_SECONDS, eventually

from hotshoe.adapter.errors import (
    AdapterLoadFailed,
    AdapterNotFound,
    AliasNotFound,
    HotshoeError,
    RegistryUnavailable,
    VersionNotFound,
)
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.registry import Change, Registry, Target, open_registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.values import Answer
from hotshoe.serve import catalog as catalog_module
from hotshoe.serve.catalog import Catalog
from hotshoe.serve.pool import AdapterPool


class Unsteady(Registry):
    """A registry whose connection fails when told to. asked: how often each reference was looked up."""

    def __init__(self, opened: Registry) -> None:
        vars(self).update(vars(opened))
        self.asked: Counter[str] = Counter()
        self.looks = 0
        self.watched: set[AdapterName] = set()
        self.fault: Exception | None = None
        self.before_answering: Callable[[], None] = lambda: None

    def targets(self, ref: AdapterRef, *, fresh: bool = False) -> tuple[Target, ...]:
        self.asked[str(ref)] += 1
        return super().targets(ref, fresh=fresh)

    def answer(self, ref: AdapterRef) -> Answer:
        self.asked[str(ref)] += 1
        found = super().answer(ref)
        self.before_answering()
        return found

    def changes(
        self, cursor: str | None, adapters: Collection[AdapterName] | None = None
    ) -> tuple[list[Change], str]:
        self.looks += 1
        self.watched = set(adapters or ())
        if self.fault:
            raise self.fault
        return super().changes(cursor, adapters)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Unsteady]:
    """acme/support v1 to v3, `prod` on v1; globex/legal v1, `prod` on v1."""
    base = make_base(tmp_path / "base")
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as opened:
        for seed in (1, 2, 3):
            opened.publish(make_adapter(tmp_path / f"a{seed}", seed), SUPPORT, base=base)
        opened.publish(make_adapter(tmp_path / "l", 9), LEGAL, base=base)
        opened.promote(SUPPORT, "prod", 1)
        opened.promote(LEGAL, "prod", 1)
        yield Unsteady(opened)


class Watched:
    """A catalog that watches, its pool and its engine."""

    def __init__(self, registry: Unsteady) -> None:
        self.registry = registry
        self.engine = Recorder()
        self.pool = AdapterPool(self.engine, Shelves(), capacity=4)
        self.catalog = Catalog(registry, self.pool, poll_seconds=0.01)

    async def now(self, text: str = "acme/support@prod") -> str:
        return str(await self.catalog.resolve(ref(text)))

    async def use(self, text: str = "acme/support@prod") -> str:
        version = await self.catalog.resolve(ref(text))
        async with self.pool.lease(version):
            return str(version)

    async def answers_with(self, end: str, text: str = "acme/support@prod") -> None:
        """Wait until the version, or the reason why there is none, ends so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await self._version_or_reason(text)).endswith(end):
                await asyncio.sleep(0.005)

    async def _version_or_reason(self, text: str) -> str:
        try:
            return await self.now(text)
        except HotshoeError as error:
            return error.reason


@contextlib.asynccontextmanager
async def watching(registry: Unsteady) -> AsyncIterator[Watched]:
    watched = Watched(registry)
    async with watched.catalog.watching():
        yield watched
    await watched.pool.close()


async def test_a_reference_without_a_selector_means_prod(registry: Unsteady) -> None:
    async with watching(registry) as server:
        assert await server.now("acme/support") == "acme/support@v1"


async def test_a_reference_to_a_number_or_a_commit_is_that_version_for_ever(registry: Unsteady) -> None:
    async with watching(registry) as server:
        commit = (await server.catalog.resolve(ref("acme/support@v2"))).commit
        registry.promote(SUPPORT, "prod", 3)
        assert await server.now("acme/support@v2") == "acme/support@v2"
        assert await server.now(f"acme/support@{commit}") == "acme/support@v2"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("acme/nobody", AdapterNotFound),
        ("acme/support@v99", VersionNotFound),
        ("acme/support@canary", AliasNotFound),
        ("acme/support@" + "0" * 40, VersionNotFound),
    ],
)
async def test_what_is_not_there_is_said_each_time(
    registry: Unsteady, text: str, error: type[Exception]
) -> None:
    async with watching(registry) as server:
        for _ in range(2):
            with pytest.raises(error):
                await server.now(text)


async def test_what_is_not_there_is_looked_for_once_in_a_while_and_not_watched(registry: Unsteady) -> None:
    async with watching(registry) as server:
        for _ in range(20):
            with pytest.raises(AdapterNotFound):
                await server.now("acme/nobody")
        assert registry.asked["acme/nobody@prod"] <= 2
        await server.use()
        looks = registry.looks
        await eventually(lambda: registry.looks > looks)
        assert registry.watched == {SUPPORT}


async def test_what_was_not_there_is_found_once_it_is(registry: Unsteady) -> None:
    async with watching(registry) as server:
        with pytest.raises(AliasNotFound):
            await server.now("acme/support@canary")
        registry.promote(SUPPORT, "canary", 2)
        await server.answers_with("@v2", "acme/support@canary")


async def test_the_registry_is_asked_once_for_many_callers(registry: Unsteady) -> None:
    async with watching(registry) as server:
        await asyncio.gather(*(server.now() for _ in range(50)))
        await server.now()
    assert registry.asked == {"acme/support@prod": 1}


async def test_a_moved_alias_answers_with_the_new_version_once_that_is_loaded(registry: Unsteady) -> None:
    async with watching(registry) as server:
        await server.use()
        server.engine.gate.clear()
        registry.promote(SUPPORT, "prod", 2)
        await eventually(lambda: len(server.engine.added) == 2)
        assert await server.now() == "acme/support@v1"
        server.engine.gate.set()
        await server.answers_with("@v2")


async def test_the_old_version_is_unloaded_when_its_last_request_has_ended(registry: Unsteady) -> None:
    async with watching(registry) as server:
        old = await server.catalog.resolve(ref("acme/support@prod"))
        async with server.pool.lease(old):
            registry.promote(SUPPORT, "prod", 2)
            await server.answers_with("@v2")
            await until_idle()
            assert old in server.pool.resident()
        await eventually(lambda: old not in server.pool.resident())


async def test_a_version_that_another_alias_wants_stays_loaded(registry: Unsteady) -> None:
    async with watching(registry) as server:
        registry.promote(SUPPORT, "staging", 1)
        await server.use("acme/support@staging")
        await server.use("acme/support@prod")
        registry.promote(SUPPORT, "prod", 2)
        await server.answers_with("@v2")
        await until_idle()
        tags = {each.tag for each in server.pool.resident()}
        assert tags == {"v1", "v2"}


async def test_a_new_version_that_cannot_be_loaded_leaves_the_old_one_answering(registry: Unsteady) -> None:
    async with watching(registry) as server:
        await server.use()
        server.engine.faults["acme/support"] = AdapterLoadFailed("no")
        registry.promote(SUPPORT, "prod", 2)
        await eventually(lambda: bool(server.catalog.stuck()))
        assert await server.use() == "acme/support@v1"
        assert [str(each) for each in server.catalog.stuck()] == ["acme/support@prod"]
        server.engine.faults.clear()
        registry.promote(SUPPORT, "prod", 3)
        await server.answers_with("@v3")
        assert not server.catalog.stuck()


async def test_a_load_that_fails_for_now_is_tried_again(
    registry: Unsteady, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "FIRST_RETRY_SECONDS", 0.01)
    async with watching(registry) as server:
        await server.use()
        server.engine.faults["acme/support"] = RegistryUnavailable("no route")
        registry.promote(SUPPORT, "prod", 2)
        await eventually(lambda: len(server.engine.added) > 3)
        assert await server.now() == "acme/support@v1"
        server.engine.faults.clear()
        await server.answers_with("@v2")


async def test_a_move_that_is_told_while_the_registry_fails_once_is_not_lost(
    registry: Unsteady, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog_module, "FIRST_RETRY_SECONDS", 0.01)
    line = FailingStore(registry.store)
    knowledge = Knowledge(line, Recollection(tmp_path / "knowledge", line.url), fresh_seconds=30)
    distant = Registry(line, knowledge, Cache(tmp_path / "distant"))
    async with watching(Unsteady(distant)) as server:
        await server.use()
        line.refs_lost = 1
        registry.promote(SUPPORT, "prod", 2)
        await server.answers_with("@v2")
        assert not line.refs_lost
        await eventually(lambda: not server.catalog.stuck())


async def test_an_alias_first_asked_for_in_an_outage_is_followed_when_that_is_over(
    registry: Unsteady, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its move was told before the outage, when nobody here knew the alias; no other move comes to help."""
    monkeypatch.setattr(catalog_module, "FIRST_RETRY_SECONDS", 0.01)
    line = FailingStore(registry.store)
    recollection = Recollection(tmp_path / "knowledge", line.url)

    def distant() -> Unsteady:
        knowledge = Knowledge(line, recollection, fresh_seconds=30)
        return Unsteady(Registry(line, knowledge, Cache(tmp_path / "distant")))

    registry.promote(SUPPORT, "canary", 1)
    assert distant().resolve(ref("acme/support@canary")).number == 1
    async with watching(distant()) as server:
        await server.use()
        registry.promote(SUPPORT, "canary", 2)
        looks = server.registry.looks
        await eventually(lambda: server.registry.looks > looks + 2)
        line.refs_lost = 1
        assert await server.now("acme/support@canary") == "acme/support@v1"
        await server.answers_with("@v2", "acme/support@canary")
        await eventually(lambda: not server.catalog.stuck())


async def test_a_slow_load_of_one_does_not_hold_up_the_others(registry: Unsteady) -> None:
    async with watching(registry) as server:
        await server.use()
        await server.now("globex/legal")
        registry.promote(LEGAL, "staging", 1)
        await server.now("globex/legal@staging")
        server.engine.gate.clear()
        registry.promote(SUPPORT, "prod", 2)
        await eventually(lambda: len(server.engine.added) == 2)
        registry.unset(LEGAL, "staging")
        await server.answers_with("ALIAS_NOT_FOUND", "globex/legal@staging")
        server.engine.gate.set()


async def test_the_last_of_many_quick_moves_counts(registry: Unsteady) -> None:
    async with watching(registry) as server:
        await server.use()
        for number in (2, 3, 1, 2, 3, 2, 1, 3):
            registry.promote(SUPPORT, "prod", number)
            await asyncio.sleep(0.004)
        await server.answers_with("@v3")
        await eventually(lambda: {each.tag for each in server.pool.resident()} == {"v3"})
        assert await server.now() == "acme/support@v3"


async def test_an_alias_that_was_unset_is_not_found_and_its_version_unloaded(registry: Unsteady) -> None:
    async with watching(registry) as server:
        await server.use()
        registry.unset(SUPPORT, "prod")
        await server.answers_with("ALIAS_NOT_FOUND")
        await eventually(lambda: not server.pool.resident())


async def test_an_answer_from_before_a_move_is_not_remembered(registry: Unsteady) -> None:
    """The registry's answer is slow, and the alias moves before it arrives."""
    answered, may_answer = threading.Event(), threading.Event()

    def hold_back() -> None:
        answered.set()
        may_answer.wait(10)

    async with watching(registry) as server:
        registry.before_answering = hold_back
        early = asyncio.create_task(server.now())
        await asyncio.to_thread(answered.wait)
        registry.promote(SUPPORT, "prod", 2)
        looks = registry.looks
        await eventually(lambda: registry.looks > looks + 1)
        may_answer.set()
        assert await early == "acme/support@v1"
        await server.answers_with("@v2")


async def test_a_split_alias_keeps_each_session_on_one_version(registry: Unsteady) -> None:
    async with watching(registry) as server:
        registry.split(SUPPORT, "canary", {1: 80, 2: 20})
        canary = ref("acme/support@canary")
        seen: Counter[str] = Counter()
        for number in range(400):
            first = await server.catalog.resolve(canary, session=f"user-{number}")
            again = await server.catalog.resolve(canary, session=f"user-{number}")
            assert first == again
            seen[first.tag] += 1
        assert 40 < seen["v2"] < 130


@pytest.mark.parametrize("fault", [RegistryUnavailable("no route"), ZeroDivisionError()])
async def test_while_the_registry_cannot_be_watched_aliases_stay_as_they_are(
    registry: Unsteady, fault: Exception
) -> None:
    async with watching(registry) as server:
        await server.use()
        registry.fault = fault
        registry.promote(SUPPORT, "prod", 2)
        await eventually(lambda: server.catalog.age_seconds() > 0.2)
        assert await server.now() == "acme/support@v1"
        registry.fault = None
        await server.answers_with("@v2")


async def test_a_move_is_followed_while_callers_keep_every_thread_waiting_for_a_slow_registry(
    registry: Unsteady,
) -> None:
    loop, go = asyncio.get_running_loop(), threading.Event()

    def wait() -> None:
        go.wait(PATIENCE_SECONDS)

    loop.set_default_executor(ThreadPoolExecutor(2))
    try:
        async with watching(registry) as watched:
            assert (await watched.use()).endswith("v1")
            registry.before_answering = wait
            asking = [
                asyncio.create_task(watched.now(text))
                for text in ("globex/legal@v1", "globex/legal@prod", "acme/support@v3")
            ]
            await asyncio.sleep(0.05)
            registry.promote(SUPPORT, "prod", 2)
            began = time.monotonic()
            await watched.answers_with("v2")
            assert time.monotonic() - began < 2
            go.set()
            await asyncio.gather(*asking)
    finally:
        go.set()
        loop.set_default_executor(ThreadPoolExecutor())
