"""Letting requests in: limits, the line, and draining."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from support.recorder import until_idle

from hotshoe.adapter.errors import DeadlineExceeded, Draining, Exhausted
from hotshoe.serve.admission import Admission, Place
from hotshoe.serve.fairness import FairQueue
from hotshoe.serve.tenants import ANYONE, Limits, Tenant


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(places: int = 2, clock: Clock | None = None) -> Admission:
    return Admission(FairQueue(places, 2), clock=clock or Clock())


def tenant(name: str = "acme", weight: float = 1.0, **limits: float) -> Tenant:
    return Tenant(name, weight=weight, limits=Limits(**limits))  # type: ignore[arg-type]


class Request:
    """One that stands in line and, once in, stays until told to go."""

    def __init__(
        self, admission: Admission, who: Tenant = ANYONE, adapter: str = "", priority: int = 0
    ) -> None:
        self.place: Place | None = None
        self.go = asyncio.Event()
        self.task = asyncio.create_task(self._run(admission, who, adapter, priority))

    async def _run(self, admission: Admission, who: Tenant, adapter: str, priority: int) -> None:
        async with admission.place(who, adapter=adapter, prompt_tokens=1, priority=priority) as self.place:
            await self.go.wait()

    @property
    def is_in(self) -> bool:
        return self.place is not None and not self.task.done()

    async def leave(self) -> None:
        self.go.set()
        await self.task


@contextlib.asynccontextmanager
async def inside(admission: Admission, count: int, who: Tenant = ANYONE) -> AsyncIterator[list[Request]]:
    requests = [Request(admission, who) for _ in range(count)]
    await until_idle()
    yield requests
    for request in requests:
        request.go.set()
    await asyncio.gather(*(request.task for request in requests))


# The line


async def test_who_finds_a_place_does_not_wait() -> None:
    async with make().place(ANYONE, adapter="", prompt_tokens=1) as place:
        assert place.queue_ms == 0


async def test_who_finds_none_waits_until_one_is_left() -> None:
    clock = Clock()
    admission = make(1, clock)
    async with inside(admission, 2) as (first, second):
        assert (first.is_in, second.is_in) == (True, False)
        assert (admission.running, admission.waiting) == (1, 1)
        clock.now = 0.25
        await first.leave()
        await until_idle()
        assert second.is_in
        assert second.place is not None
        assert second.place.queue_ms == 250


async def test_of_those_who_wait_the_more_urgent_one_is_let_in_first() -> None:
    admission = make(1)
    async with inside(admission, 1) as (first,):
        low, usual, high = (Request(admission, priority=priority) for priority in (-1, 0, 1))
        await until_idle()
        await first.leave()
        for next_one, others in ((high, (usual, low)), (usual, (low,)), (low, ())):
            await until_idle()
            assert next_one.is_in
            assert not any(each.is_in for each in others)
            await next_one.leave()


async def test_a_tenant_of_three_times_the_weight_is_let_in_three_times_as_often() -> None:
    admission = make(1)
    async with inside(admission, 1) as (first,):
        waiting = {
            name: [Request(admission, tenant(name, weight)) for _ in range(12)]
            for name, weight in (("light", 1), ("heavy", 3))
        }
        await until_idle()
        leaving, order = first, list[str]()
        for _ in range(12):
            await leaving.leave()
            await until_idle()
            ((name, leaving),) = [
                (name, each) for name, requests in waiting.items() for each in requests if each.is_in
            ]
            order.append(name)
        assert (order.count("heavy"), order.count("light")) == (9, 3)
        for each in (*waiting["light"], *waiting["heavy"]):
            each.go.set()
        await asyncio.gather(*(each.task for requests in waiting.values() for each in requests))


async def test_a_deadline_that_the_tenants_weight_allows_for_is_no_refusal() -> None:
    # A place takes 0.05 s: the heavy one is next almost at once, the light one's turn is 1 s away.
    admission = make(1)
    async with inside(admission, 11, tenant("globex")):
        heavy = asyncio.create_task(_enter(admission, 0.5, tenant("heavy", weight=20)))
        await until_idle()
        assert not heavy.done()
        heavy.cancel()
        with pytest.raises(Exhausted, match="the line takes about"):
            await asyncio.wait_for(_enter(admission, 0.5, tenant("light", weight=0.05)), 1)


async def test_who_gives_up_in_line_makes_room_behind_him() -> None:
    admission = make(1)
    async with inside(admission, 3) as (first, second, third):
        second.task.cancel()
        await until_idle()
        assert admission.waiting == 1
        await first.leave()
        await until_idle()
        assert third.is_in
        with contextlib.suppress(asyncio.CancelledError):
            await second.task
        second.task = asyncio.create_task(asyncio.sleep(0))
    assert (admission.running, admission.waiting) == (0, 0)


async def test_who_is_let_in_and_gives_up_in_the_same_moment_leaves_no_place_taken() -> None:
    admission = make(1)
    async with inside(admission, 1) as (first,):
        second = Request(admission)
        await until_idle()
        first.go.set()
        await first.task
        second.task.cancel()
        await until_idle()
        with pytest.raises(asyncio.CancelledError):
            await second.task
    assert (admission.running, admission.waiting) == (0, 0)
    async with admission.place(ANYONE, adapter="", prompt_tokens=1):
        pass


async def test_who_was_cancelled_while_the_place_became_free_leaves_no_place_taken() -> None:
    admission = make(1)
    async with inside(admission, 1) as (first,):
        second = Request(admission)
        await until_idle()
        second.task.cancel()
        first.go.set()
        await first.task
        await until_idle()
    assert (admission.running, admission.waiting) == (0, 0)


async def test_an_error_inside_gives_the_place_back() -> None:
    admission = make(1)
    with pytest.raises(ZeroDivisionError):
        async with admission.place(ANYONE, adapter="", prompt_tokens=1):
            raise ZeroDivisionError
    assert admission.running == 0


async def test_a_line_that_is_full_is_refused_with_the_time_to_come_back() -> None:
    acme = tenant(queued=2)
    admission = make(1)
    async with inside(admission, 3, acme):
        with pytest.raises(Exhausted, match="tenant acme is at the limit of 2 requests in line") as raised:
            await Request(admission, acme).task
        assert raised.value.retry_seconds > 0
        other = Request(admission, tenant("globex"))
        await until_idle()
        assert admission.waiting == 3
        other.task.cancel()


async def test_a_deadline_that_the_line_would_eat_is_refused_at_once() -> None:
    clock = Clock()
    admission = make(1, clock)
    async with inside(admission, 10) as requests:
        for request in requests[:5]:
            clock.now += 2
            await request.leave()
            await until_idle()
        with pytest.raises(Exhausted, match=r"the line takes about .* and the deadline is in 0\.5 s"):
            async with admission.place(ANYONE, adapter="", prompt_tokens=1, seconds_left=0.5):
                pass
        patient = asyncio.create_task(_enter(admission, seconds_left=1000))
        await until_idle()
        assert not patient.done()
        patient.cancel()


async def test_a_deadline_that_is_over_is_over() -> None:
    with pytest.raises(DeadlineExceeded):
        await _enter(make(), seconds_left=0)


async def _enter(admission: Admission, seconds_left: float, who: Tenant = ANYONE) -> None:
    async with admission.place(who, adapter="", prompt_tokens=1, seconds_left=seconds_left):
        pass


# Limits


def test_more_requests_a_second_than_allowed_are_refused_until_time_passes() -> None:
    clock = Clock()
    admission, acme = make(clock=clock), tenant(requests_per_second=2)
    for _ in range(2):
        with admission.visit(acme):
            pass
    with pytest.raises(Exhausted, match="2 requests a second") as raised, admission.visit(acme):
        pass
    assert raised.value.retry_seconds == 0.5
    assert raised.value.details["tenant"] == "acme"
    with admission.visit(tenant("globex", requests_per_second=2)):
        pass
    clock.now = 0.5
    with admission.visit(acme):
        pass


def test_more_requests_at_once_than_allowed_are_refused() -> None:
    admission, acme = make(), tenant(concurrent=1)
    with (
        admission.visit(acme),
        pytest.raises(Exhausted, match="1 requests at once"),
        admission.visit(acme),
    ):
        pass
    with admission.visit(acme):
        pass


async def test_tokens_are_charged_as_they_are_made_and_a_debt_must_be_paid() -> None:
    clock = Clock()
    admission, acme = make(clock=clock), tenant(tokens_per_minute=60)
    with admission.visit(acme):
        async with admission.place(acme, adapter="", prompt_tokens=50) as place:
            place.charge(40)
    with pytest.raises(Exhausted, match="60 tokens a minute") as raised, admission.visit(acme):
        pass
    assert raised.value.retry_seconds == 31
    clock.now = 31
    with admission.visit(acme):
        pass


def test_limits_that_change_count_from_then_on() -> None:
    admission = make()
    with admission.visit(tenant(concurrent=2)):
        with pytest.raises(Exhausted), admission.visit(tenant(concurrent=1)):
            pass
        with admission.visit(tenant(concurrent=2)):
            pass
    with admission.visit(tenant(concurrent=1)):
        pass


# Draining


async def test_draining_refuses_new_requests_and_waits_for_the_others() -> None:
    admission = make()
    with admission.visit(ANYONE):
        admission.close()
        with pytest.raises(Draining, match="call another"), admission.visit(ANYONE):
            pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await admission.empty()
    async with asyncio.timeout(1):
        await admission.empty()
    admission.reopen()
    with admission.visit(ANYONE):
        pass
