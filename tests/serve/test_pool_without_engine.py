"""What a pool does when its engine is lost: nobody waits for it, nothing of it stays, the next is filled."""

from __future__ import annotations

import asyncio

import pytest
from support.pools import make, use
from support.recorder import names, until_idle, version
from support.waiting import eventually

from hotshoe.adapter.errors import AdapterLoadFailed, EngineUnavailable

A, B = version("a"), version("b")


async def test_a_folder_that_comes_after_the_engine_died_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hotshoe.serve.fetching.KEPT_SECONDS", 0.0)
    async with make() as (pool, _, shelves, _):
        await pool.fetch(A)
        await eventually(lambda: not shelves.still_out())
        shelves.gate.clear()
        waiting = asyncio.create_task(use(pool, A))
        await until_idle()
        await pool.on_engine_lost()
        with pytest.raises(EngineUnavailable):
            await waiting
        assert shelves.taken[A] == 2
        shelves.gate.set()
        await until_idle()
        assert not shelves.still_out()


async def test_an_adapter_that_the_next_engine_does_not_know_is_no_fault_of_the_adapters() -> None:
    async with make() as (pool, engine, _, _):

        async def use_unknown(*, lost: bool) -> None:
            async with pool.lease(A) as lease:
                if lost:
                    await pool.on_engine_lost()
                raise AdapterLoadFailed(f"{lease.adapter.name} is not in the engine")

        with pytest.raises(EngineUnavailable, match="try again"):
            await use_unknown(lost=True)
        engine.held.clear()
        with pytest.raises(AdapterLoadFailed):
            await use_unknown(lost=False)


async def test_an_engine_that_was_lost_leaves_nothing_behind_in_the_pool() -> None:
    async with make(capacity=2) as (pool, engine, shelves, _):
        done = asyncio.Event()
        await pool.pin(B)
        holder = asyncio.create_task(use(pool, A, done))
        await until_idle()
        await pool.on_engine_lost()
        assert (pool.resident(), pool.leases(A), shelves.still_out()) == ([], 0, set())
        engine.held.clear()
        again = asyncio.Event()
        second = asyncio.create_task(use(pool, A, again))
        await until_idle()
        done.set()
        await holder  # A lease on the lost engine does not count against the new one's.
        assert pool.leases(A) == 1
        again.set()
        await second
        assert pool.leases(A) == 0
        await pool.on_engine_back()
        assert [each.version for each in pool.residency() if each.pinned] == ["v1"]
        assert names(pool.resident()) == names([A, B])


async def test_who_waits_for_a_load_in_an_engine_that_is_lost_is_told_so() -> None:
    async with make() as (pool, engine, _, _):
        engine.gate.clear()
        waiting = [asyncio.create_task(use(pool, A)) for _ in range(3)]
        await until_idle()
        await pool.on_engine_lost()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in results] == [EngineUnavailable] * 3
        engine.gate.set()
        assert await use(pool, A)


async def test_who_waits_for_a_place_in_an_engine_that_is_lost_gets_one_in_the_next() -> None:
    async with make(capacity=1) as (pool, engine, _, _):
        done = asyncio.Event()
        holder = asyncio.create_task(use(pool, A, done))
        await until_idle()
        waiting = asyncio.create_task(use(pool, B))
        await until_idle()
        await pool.on_engine_lost()
        engine.held.clear()
        await asyncio.wait_for(waiting, 1)
        done.set()
        await holder
