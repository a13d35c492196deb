"""Where versions are, and how operators keep or unload them."""

from __future__ import annotations

import asyncio

import pytest
from support.recorder import Recorder, Shelves, until_idle, version

from hotshoe.adapter.errors import AdapterLoadFailed, Refused
from hotshoe.serve.pool import UNLIMITED, AdapterPool
from hotshoe.serve.residency import REMEMBERED, Sightings
from hotshoe.serve.slots import Slots
from hotshoe.wire.admin import Occupancy, Residency, State

A, B, C, D = (version(name) for name in "abcd")


def states(pool: AdapterPool) -> dict[str, State]:
    return {each.adapter.removeprefix("acme/"): each.state for each in pool.residency()}


def only(pool: AdapterPool) -> Residency:
    (residency,) = pool.residency()
    return residency


async def test_a_version_is_told_through_every_state() -> None:
    engine, shelves = Recorder(), Shelves()
    pool = AdapterPool(engine, shelves, capacity=1)
    assert pool.residency() == []
    shelves.gate.clear()
    engine.gate.clear()
    fetching = asyncio.ensure_future(pool.fetch(A))
    await until_idle(2)
    assert states(pool) == {"a": State.FETCHING}
    shelves.gate.set()
    await fetching
    assert states(pool) == {"a": State.ON_DISK}
    loading = asyncio.ensure_future(pool.warm(A))
    await until_idle(2)
    assert states(pool) == {"a": State.LOADING}
    assert pool.occupancy() == Occupancy(
        loaded=0, loading=1, leased=1, capacity=1, slots=8, bytes=1, capacity_bytes=UNLIMITED
    )
    engine.gate.set()
    await loading
    async with pool.lease(A), pool.lease(A):
        assert (only(pool).state, only(pool).leases, only(pool).hits) == (State.LOADED, 2, 3)
        assert only(pool).idle_seconds == 0
    assert only(pool).leases == 0
    await pool.warm(B)
    assert states(pool) == {"a": State.ON_DISK, "b": State.LOADED}
    await pool.close()


async def test_a_version_that_cannot_be_loaded_is_told_with_its_error_until_it_can() -> None:
    engine = Recorder()
    pool = AdapterPool(engine, Shelves(), capacity=1)
    engine.faults["acme/a"] = AdapterLoadFailed("its weights are no LoRA")
    with pytest.raises(AdapterLoadFailed):
        await pool.warm(A)
    failed = only(pool)
    assert (failed.version, failed.state) == ("v1", State.FAILED)
    assert (failed.error_reason, failed.error_message) == ("ADAPTER_LOAD_FAILED", "its weights are no LoRA")
    await pool.close()
    again = AdapterPool(Recorder(), Shelves(), capacity=1)
    await again.warm(A)
    assert (only(again).state, only(again).error_reason) == (State.LOADED, "")
    await again.close()


async def test_a_pinned_version_stays_whatever_is_asked_for() -> None:
    engine = Recorder()
    pool = AdapterPool(engine, Shelves(), capacity=2)
    await pool.pin(A)
    for each in (B, C, D, B, C):
        await pool.warm(each)
    assert states(pool)["a"] is State.LOADED
    assert not await pool.retire(A)
    with pytest.raises(Refused, match="pinned: unpin it"):
        await pool.evict(A)
    pool.unpin(A)
    await pool.warm(B)
    assert states(pool)["a"] is State.ON_DISK
    await pool.close()


async def test_one_place_always_stays_for_what_is_not_pinned() -> None:
    pool = AdapterPool(Recorder(), Shelves(), capacity=2)
    await pool.pin(A)
    await pool.pin(A)
    with pytest.raises(Refused, match=r"1 of 2 places are.*--resident"):
        await pool.pin(B)
    await pool.warm(C)
    await pool.close()


async def test_a_version_is_unloaded_when_told_unless_it_is_in_use() -> None:
    pool = AdapterPool(Recorder(), Shelves(), capacity=2)
    async with pool.lease(A):
        with pytest.raises(Refused, match="used by 1 requests"):
            await pool.evict(A)
    await pool.evict(A)
    await pool.evict(A)
    await pool.evict(B)
    assert states(pool) == {"a": State.ON_DISK}
    await pool.close()


def test_versions_are_remembered_up_to_a_number_the_last_wanted_longest() -> None:
    sightings, slots = Sightings(), Slots(2, 9).on_request(version("0").engine_name, 1)[0]
    for number in range(REMEMBERED + 10):
        sightings.wanted(version(str(number)), slots)
    names = {each.adapter for each in sightings.residency(slots, ())}
    assert len(names) == REMEMBERED + 1
    assert {"acme/0", f"acme/{REMEMBERED + 9}"} <= names
    assert "acme/1" not in names
