"""What the journal tells of adapters."""

from __future__ import annotations

import pytest
from support.adapters import ref
from support.recorder import Recorder, Shelves, version

from hotshoe.adapter.errors import AdapterLoadFailed, Unservable
from hotshoe.serve.journal import UNREAD, Journal
from hotshoe.serve.pool import AdapterPool
from hotshoe.wire.admin import Happening, What

A, B, C = (version(name) for name in "abc")


async def test_a_pool_tells_what_it_loads_evicts_retires_and_fails_to_load() -> None:
    told: list[Happening] = []
    journal, engine = Journal(), Recorder()
    journal.read_by(told.append)
    engine.faults["acme/c"] = AdapterLoadFailed("its weights are no LoRA")
    pool = AdapterPool(engine, Shelves(), capacity=1, journal=journal)
    await pool.warm(A)
    await pool.warm(B)
    await pool.retire(B)
    with pytest.raises(AdapterLoadFailed):
        await pool.warm(C)
    assert [(each.what, each.adapter, each.version) for each in told] == [
        (What.LOADED, "acme/a", "v1"),
        (What.EVICTED, "acme/a", "v1"),
        (What.LOADED, "acme/b", "v1"),
        (What.RETIRED, "acme/b", "v1"),
        (What.LOAD_FAILED, "acme/c", "v1"),
    ]
    assert told[0].seconds > 0
    assert (told[-1].reason, told[-1].message) == ("ADAPTER_LOAD_FAILED", "its weights are no LoRA")
    assert all(each.at.utcoffset() is not None for each in told)


async def test_a_follower_hears_everything_from_the_moment_it_listens() -> None:
    journal = Journal()
    journal.loaded(A, seconds=1)
    with journal.following() as news:
        journal.moved(ref("acme/a@prod"), now="v2", before="v1")
        journal.stuck(ref("acme/a@canary"), Unservable("rank 64 is too much"))
        moved, stuck = await anext(news), await anext(news)
    assert (moved.what, moved.alias, moved.version, moved.message) == (What.MOVED, "prod", "v2", "was v1")
    assert (stuck.what, stuck.alias, stuck.reason) == (What.STUCK, "canary", "UNSERVABLE")


async def test_a_follower_that_does_not_read_misses_the_oldest_and_fills_no_memory() -> None:
    journal = Journal()
    with journal.following() as news:
        for number in range(UNREAD + 10):
            journal.loaded(version("a", number), seconds=0)
        assert (await anext(news)).version == "v10"


async def test_a_reader_that_fails_keeps_nobody_from_reading(caplog: pytest.LogCaptureFixture) -> None:
    journal, told = Journal(), list[Happening]()

    def fail(_: Happening) -> None:
        raise OSError("disk full")

    journal.read_by(fail)
    journal.read_by(told.append)
    journal.retired(A)
    assert [each.what for each in told] == [What.RETIRED]
    assert "a reader of the journal failed" in caplog.text
