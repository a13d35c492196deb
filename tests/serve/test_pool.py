"""Leases: one load a version, nothing in use unloaded, nobody forgotten."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from support.pools import make, use
from support.recorder import Recorder, Shelves, names, until_idle, version
from support.waiting import eventually

from hotshoe.adapter.errors import (
    AdapterLoadFailed,
    EngineUnavailable,
    HotshoeError,
    RegistryUnavailable,
    Unservable,
)
from hotshoe.adapter.version import Version
from hotshoe.serve.pool import AdapterPool

A, B, C, D = (version(name) for name in "abcd")


async def test_a_version_is_loaded_once_and_stays() -> None:
    async with make() as (pool, engine, shelves, _):
        async with pool.lease(A) as first:
            assert first.load_ms > 0
        async with pool.lease(A) as second:
            assert second.load_ms == 0
        assert first.adapter == second.adapter
        assert (len(engine.added), shelves.taken[A]) == (1, 1)
        assert pool.resident() == [A]


async def test_many_at_once_share_one_load() -> None:
    async with make() as (pool, engine, shelves, _):
        assert len(set(await asyncio.gather(*(use(pool, A) for _ in range(50))))) == 1
        assert (len(engine.added), shelves.taken[A]) == (1, 1)


async def test_who_joins_a_load_that_fails_fails_with_it() -> None:
    async with make() as (pool, engine, shelves, _):
        engine.faults["acme/a"] = AdapterLoadFailed("no")
        results = await asyncio.gather(*(use(pool, A) for _ in range(5)), return_exceptions=True)
        assert [type(each) for each in results] == [AdapterLoadFailed] * 5
        assert len(engine.added) == 1
        assert not shelves.still_out()


async def test_a_caller_that_gives_up_does_not_take_the_load_from_the_others() -> None:
    async with make() as (pool, engine, _, _):
        engine.gate.clear()
        impatient = asyncio.create_task(use(pool, A))
        patient = asyncio.create_task(use(pool, A))
        await until_idle()
        impatient.cancel()
        await until_idle()
        engine.gate.set()
        assert engine.held == {await patient: "acme/a"}
        assert pool.leases(A) == 0


async def test_a_load_that_nobody_waits_for_any_more_ends_well() -> None:
    async with make() as (pool, engine, _, _):
        engine.gate.clear()
        task = asyncio.create_task(use(pool, A))
        await until_idle()
        task.cancel()
        await until_idle()
        engine.gate.set()
        await eventually(lambda: pool.resident() == [A])
        assert engine.held == {await use(pool, A): "acme/a"}


async def test_a_load_that_fails_unseen_disturbs_nobody() -> None:
    async with make() as (pool, engine, _, _):
        engine.gate.clear()
        engine.faults["acme/a"] = RegistryUnavailable("later")
        task = asyncio.create_task(use(pool, A))
        await until_idle()
        task.cancel()
        engine.gate.set()
        await until_idle()
        engine.faults.clear()
        assert engine.held == {await use(pool, A): "acme/a"}


async def test_the_longest_unused_leaves_first_and_its_folder_is_given_back() -> None:
    async with make() as (pool, engine, shelves, _):
        for each in (A, B, A, C):
            await use(pool, each)
        assert names(pool.resident()) == names([A, C])
        await eventually(lambda: shelves.still_out() == {A, C})
        assert engine.most == 2


async def test_what_is_in_use_is_not_unloaded_and_the_newcomer_waits() -> None:
    async with make() as (pool, engine, _, _):
        done = asyncio.Event()
        holders = [asyncio.create_task(use(pool, each, done)) for each in (A, B)]
        await until_idle()
        newcomer = asyncio.create_task(use(pool, C))
        await until_idle()
        assert not newcomer.done()
        assert engine.removed == []
        done.set()
        await asyncio.gather(newcomer, *holders)
        assert engine.most == 2


async def test_who_waits_longest_for_a_place_gets_the_next_one() -> None:
    async with make(capacity=1) as (pool, engine, _, _):
        done = asyncio.Event()
        holder = asyncio.create_task(use(pool, A, done))
        await until_idle()
        order: list[str] = []

        async def queue(wanted: Version) -> None:
            async with pool.lease(wanted):
                order.append(wanted.adapter.name)

        waiting = [asyncio.create_task(queue(each)) for each in (B, C, D)]
        await until_idle()
        done.set()
        await asyncio.gather(holder, *waiting)
        assert order == ["b", "c", "d"]
        assert engine.most == 1


async def test_who_needs_no_place_does_not_stand_in_line() -> None:
    async with make(capacity=1) as (pool, engine, _, _):
        done = asyncio.Event()
        holder = asyncio.create_task(use(pool, A, done))
        await until_idle()
        waiting = asyncio.create_task(use(pool, B))
        await until_idle()
        assert engine.held == {await asyncio.wait_for(use(pool, A), 1): "acme/a"}
        done.set()
        await asyncio.gather(holder, waiting)


async def test_one_that_waits_and_gives_up_leaves_the_line() -> None:
    async with make(capacity=1) as (pool, _, _, _):
        done = asyncio.Event()
        holder = asyncio.create_task(use(pool, A, done))
        await until_idle()
        first, second = (asyncio.create_task(use(pool, each)) for each in (B, C))
        await until_idle()
        first.cancel()
        done.set()
        await asyncio.gather(holder, second)
        assert pool.resident() == [C]


async def test_adapters_leave_by_their_bytes_as_many_as_are_in_the_way() -> None:
    engine, shelves = Recorder(), Shelves()
    pool = AdapterPool(engine, shelves, capacity=9, capacity_bytes=100)
    shelves.sizes = {A: 30, B: 30, C: 80}
    for each in (A, B):
        await pool.warm(each)
    assert pool.occupancy().bytes == 60
    await pool.warm(C)
    assert (pool.resident(), pool.occupancy().bytes) == ([C], 80)
    assert set(engine.held.values()) == {"acme/c"}
    await pool.close()


async def test_what_is_over_all_there_is_is_refused_with_what_to_do_and_unloads_nobody() -> None:
    engine, shelves = Recorder(), Shelves()
    pool = AdapterPool(engine, shelves, capacity=9, capacity_bytes=100 << 20)
    shelves.sizes = {A: 30 << 20, B: 80 << 20, C: 101 << 20}
    await pool.pin(A)
    for each in (B, C):
        with pytest.raises(Unservable, match="--adapter-memory-mib"):
            await pool.warm(each)
    assert pool.resident() == [A]
    pool.unpin(A)
    await pool.warm(B)
    assert pool.resident() == [B]
    await pool.close()


async def test_an_id_is_never_used_again() -> None:
    async with make(capacity=1) as (pool, engine, _, _):
        engine.faults["acme/b"] = EngineUnavailable("busy")
        for each in (A, B, A, B, A):
            with contextlib.suppress(EngineUnavailable):
                await use(pool, each)
        assert len(engine.added) == 5
        assert len(set(engine.added)) == 5


async def test_a_bad_version_is_not_tried_again_at_once() -> None:
    async with make() as (pool, engine, _, clock):
        engine.faults["acme/a"] = Unservable("rank 99 is over 16", details={"adapter": "acme/a"})
        for _ in range(10):
            with pytest.raises(Unservable, match="rank 99") as raised:
                await use(pool, A)
            assert raised.value.details == {"adapter": "acme/a"}
        assert len(engine.added) == 1
        clock.now += 31
        with pytest.raises(Unservable):
            await use(pool, A)
        assert len(engine.added) == 2


async def test_a_failure_that_may_pass_is_tried_again_at_once() -> None:
    async with make() as (pool, engine, shelves, _):
        shelves.faults[A] = RegistryUnavailable("no route")
        with pytest.raises(RegistryUnavailable):
            await use(pool, A)
        shelves.faults.clear()
        assert await use(pool, A) == engine.added[0]


async def test_a_failure_that_nobody_foresaw_names_the_version_and_frees_the_place() -> None:
    async with make(capacity=1) as (pool, _, shelves, _):
        shelves.faults[A] = ZeroDivisionError("of all things")
        with pytest.raises(AdapterLoadFailed, match=r"acme/a@v1 could not be loaded: ZeroDivisionError"):
            await use(pool, A)
        await use(pool, B)


async def test_a_failed_load_lets_the_next_in_line_in() -> None:
    async with make(capacity=1) as (pool, engine, _, _):
        engine.gate.clear()
        engine.faults["acme/a"] = AdapterLoadFailed("no")
        failing = asyncio.create_task(use(pool, A))
        await until_idle()
        waiting = asyncio.create_task(use(pool, B))
        await until_idle()
        engine.gate.set()
        with pytest.raises(AdapterLoadFailed):
            await failing
        await asyncio.wait_for(waiting, 1)


async def test_fetching_brings_the_files_once_and_touches_no_engine() -> None:
    async with make(capacity=1) as (pool, engine, shelves, _):
        shelves.gate.clear()
        fetches = [asyncio.create_task(pool.fetch(A)) for _ in range(10)]
        await until_idle()
        fetches[0].cancel()
        shelves.gate.set()
        await asyncio.gather(*fetches[1:])
        assert (shelves.taken[A], engine.added, pool.resident()) == (1, [], [])
        assert shelves.still_out() == {A}  # For the load that follows; closing gives it back.


async def test_whoever_fetches_ever_new_versions_holds_a_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotshoe.serve.fetching.KEPT", 2)
    async with make() as (pool, _, shelves, _):
        for each in (A, B, C, version("d")):
            await pool.fetch(each)
        assert shelves.still_out() == {A, B}


async def test_what_was_fetched_is_kept_for_the_load_that_follows_but_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hotshoe.serve.fetching.KEPT_SECONDS", 0.05)
    async with make() as (pool, _, shelves, _):
        for each in (A, B):
            await pool.fetch(each)
        await use(pool, A)
        await eventually(lambda: shelves.still_out() == {A})
        await use(pool, B)
        assert (shelves.taken[A], shelves.taken[B]) == (1, 2)


async def test_what_is_loaded_is_not_fetched() -> None:
    async with make() as (pool, _, shelves, _):
        await use(pool, A)
        await pool.fetch(A)
        assert shelves.taken[A] == 1


async def test_a_fetch_that_finds_a_bad_version_is_remembered() -> None:
    async with make() as (pool, _, shelves, _):
        shelves.faults[A] = Unservable("rank 99")
        for attempt in (pool.fetch, pool.warm, pool.fetch):
            with pytest.raises(Unservable):
                await attempt(A)
        assert shelves.taken[A] == 1


async def test_slow_fetches_leave_threads_for_everybody_else() -> None:
    async with make() as (pool, _, shelves, _):
        shelves.gate.clear()
        fetches = [asyncio.create_task(pool.fetch(version(f"slow{number}"))) for number in range(40)]
        await until_idle()
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 7), 1) == 7
        shelves.gate.set()
        await asyncio.gather(*fetches)


async def test_retiring_waits_for_nobody_and_unloads_only_what_is_idle() -> None:
    async with make() as (pool, engine, shelves, _):
        done = asyncio.Event()
        holder = asyncio.create_task(use(pool, A, done))
        await until_idle()
        assert not await pool.retire(A)
        done.set()
        await holder
        assert await pool.retire(A)
        assert engine.held == {}
        assert not shelves.still_out()
        assert await pool.retire(B)


async def test_a_request_for_what_is_being_unloaded_loads_it_again() -> None:
    async with make() as (pool, engine, _, _):
        await use(pool, A)
        _, again = await asyncio.gather(pool.retire(A), use(pool, A))
        assert engine.held == {again: "acme/a"}


async def test_an_engine_that_cannot_unload_does_not_hold_up_the_next_load() -> None:
    async with make(capacity=1) as (pool, engine, _, _):
        await use(pool, A)
        engine.die()
        with pytest.raises(EngineUnavailable):
            await use(pool, B)


@pytest.mark.parametrize("fault", [EngineUnavailable("busy"), ZeroDivisionError("of all things")])
async def test_an_unload_that_fails_is_not_blamed_on_the_adapter_that_comes_next(fault: Exception) -> None:
    async with make(capacity=1) as (pool, engine, shelves, _):
        await use(pool, A)
        engine.clinging = fault
        await use(pool, B)
        assert pool.resident() == [B]
        await eventually(lambda: shelves.still_out() == {B})


async def test_closing_gives_up_what_is_loading() -> None:
    async with make() as (pool, engine, _, _):
        engine.gate.clear()
        task = asyncio.create_task(use(pool, A))
        await until_idle()
        await pool.close()
        with pytest.raises(EngineUnavailable):
            await task


async def test_any_traffic_keeps_the_promises() -> None:
    """Thousands of leases, cancellations and failures: never too many loaded, none unloaded in use."""
    async with make(capacity=3) as (pool, engine, shelves, _):
        wanted = [version(name) for name in "abcdefgh"]
        engine.faults["acme/h"] = EngineUnavailable("not this one")
        in_use: dict[int, int] = {}

        async def one(number: int) -> None:
            chosen = wanted[number * 7 % len(wanted)]
            with contextlib.suppress(HotshoeError):
                async with pool.lease(chosen) as lease:
                    key = lease.adapter.id
                    in_use[key] = in_use.get(key, 0) + 1
                    try:
                        for _ in range(number % 4):
                            assert key in engine.held
                            await asyncio.sleep(0)
                    finally:
                        in_use[key] -= 1

        for _ in range(10):
            tasks = [asyncio.create_task(one(number)) for number in range(200)]
            await asyncio.sleep(0.002)
            for task in tasks[::5]:
                task.cancel()
            results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
            assert not [r for r in results if isinstance(r, Exception)]
        await eventually(lambda: shelves.still_out() == set(pool.resident()))
        assert engine.most <= 3
        assert not any(in_use.values())
        assert all(pool.leases(each) == 0 for each in wanted)
