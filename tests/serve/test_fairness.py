"""The line in front of the engine, played through without one."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotshoe.serve.fairness import PRIORITY_SECONDS, FairQueue, Ticket


def ticket(
    tenant: str = "a",
    adapter: str = "",
    *,
    weight: float = 1,
    tokens: int = 10,
    priority: int = 0,
    at: float = 0,
) -> Ticket:
    return Ticket(tenant, weight, adapter, tokens, priority, at)


def fill(queue: FairQueue, tickets: Iterable[Ticket], now: float = 0) -> list[Ticket]:
    for each in tickets:
        queue.offer(each)
    return queue.admit(now)


def who(tickets: Iterable[Ticket]) -> str:
    return "".join(each.tenant for each in tickets)


def drain(queue: FairQueue, running: list[Ticket], now: float = 0) -> list[Ticket]:
    """Let one after the other leave, oldest first; the order in which the rest came in."""
    order: list[Ticket] = []
    while running:
        queue.leave(running.pop(0))
        admitted = queue.admit(now)
        order += admitted
        running += admitted
    return order


def test_an_empty_engine_takes_everybody_at_once() -> None:
    queue = FairQueue(4, 2)
    assert len(fill(queue, [ticket() for _ in range(3)])) == 3
    assert (queue.running, queue.waiting) == (3, 0)


def test_a_full_engine_lets_one_in_for_one_that_leaves() -> None:
    queue = FairQueue(2, 2)
    running = fill(queue, [ticket() for _ in range(5)])
    assert (len(running), queue.waiting) == (2, 3)
    assert len(drain(queue, running)) == 3


def test_one_tenants_requests_go_in_the_order_of_their_arrival() -> None:
    queue = FairQueue(1, 1)
    tickets = [ticket(at=number) for number in range(5)]
    running = fill(queue, tickets)
    assert [*running, *drain(queue, [*running])] == tickets


def test_priority_goes_first_but_not_for_ever() -> None:
    queue = FairQueue(1, 1)
    running = fill(queue, [ticket(at=0)])
    old, urgent = ticket(at=1), ticket(priority=1, at=2)
    late = ticket(priority=1, at=1 + PRIORITY_SECONDS + 1)
    fill(queue, [old, urgent, late])
    assert drain(queue, running) == [urgent, old, late]


def test_tenants_take_turns_however_many_requests_one_has() -> None:
    queue = FairQueue(1, 1)
    running = fill(queue, [ticket("a") for _ in range(10)])
    fill(queue, [ticket("b") for _ in range(3)])
    assert who(drain(queue, running))[:6].count("b") == 3


def test_long_prompts_count_more_than_short_ones() -> None:
    queue = FairQueue(1, 1)
    running = fill(queue, [ticket("a", tokens=90), *(ticket("a", tokens=90) for _ in range(5))])
    fill(queue, [ticket("b", tokens=10) for _ in range(20)])
    order = who(drain(queue, running))
    assert order[:9].count("b") >= 8


def test_output_counts_as_it_is_made() -> None:
    queue = FairQueue(2, 1)
    a, b = fill(queue, [ticket("a"), ticket("b")])
    queue.charge(a, 1000)
    fill(queue, [ticket("a"), ticket("b"), ticket("b")])
    queue.leave(b)
    assert who(queue.admit(0)) == "b"


def test_a_tenant_of_twice_the_weight_gets_twice_the_tokens() -> None:
    queue = FairQueue(1, 1)
    running = fill(queue, [ticket("a", weight=2) for _ in range(60)])
    fill(queue, [ticket("b", weight=1) for _ in range(60)])
    served = Counter(who(drain(queue, running))[:45])
    assert 28 <= served["a"] <= 32


def test_idle_time_is_not_saved_up() -> None:
    queue = FairQueue(1, 1)
    running = fill(queue, [ticket("a", tokens=1000) for _ in range(40)])
    for _ in range(20):
        queue.leave(running.pop(0))
        running += queue.admit(0)
    fill(queue, [ticket("late", tokens=1000) for _ in range(20)])
    order = drain(queue, running)
    first = Counter(each.tenant for each in order[:10])
    assert abs(first["a"] - first["late"]) <= 1


def test_the_reserve_is_kept_from_a_flood() -> None:
    queue = FairQueue(8, 2, reserve=2)
    assert len(fill(queue, [ticket("flood") for _ in range(50)])) == 6
    assert who(fill(queue, [ticket("late"), ticket("late")])) == "latelate"


def test_the_reserve_is_kept_even_from_the_heavy() -> None:
    queue = FairQueue(8, 2, reserve=2)
    assert len(fill(queue, [ticket("flood", weight=1.5) for _ in range(50)])) == 6


def test_no_more_adapters_are_in_than_there_are_slots() -> None:
    queue = FairQueue(8, 2)
    running = fill(queue, [ticket(adapter=name) for name in "xyz"])
    assert [each.adapter for each in running] == ["x", "y"]
    queue.leave(running[0])
    assert [each.adapter for each in queue.admit(0)] == ["z"]


def test_the_base_and_adapters_that_are_in_need_no_slot() -> None:
    queue = FairQueue(8, 1)
    fill(queue, [ticket(adapter="x"), ticket(adapter="y")])
    admitted = fill(queue, [ticket(), ticket(adapter="x")])
    assert [each.adapter for each in admitted] == ["", "x"]


def test_an_adapter_that_had_its_turn_makes_room_for_one_that_waits() -> None:
    queue = FairQueue(8, 1, turn_seconds=2)
    running = fill(queue, [ticket(adapter="x")])
    waiting = ticket(adapter="y", at=1)
    fill(queue, [waiting], now=1)
    assert [each.adapter for each in fill(queue, [ticket(adapter="x", at=1.5)], now=1.5)] == ["x"]
    assert fill(queue, [ticket(adapter="x", at=3)], now=3) == []
    queue.leave(running[0])
    assert queue.admit(3.1) == []


def test_an_adapter_goes_on_as_long_as_nobody_waits_for_its_slot() -> None:
    queue = FairQueue(8, 1, turn_seconds=2)
    fill(queue, [ticket(adapter="x")])
    assert len(fill(queue, [ticket(adapter="x", at=100)], now=100)) == 1


def test_many_answers_take_as_many_places_and_are_not_passed_by_for_ever() -> None:
    queue = FairQueue(4, 1)
    running = fill(queue, [ticket() for _ in range(4)])
    big, small = Ticket("a", 1, "", 10, 0, 1.0, size=3), ticket(at=2)
    fill(queue, [big, small])
    for number in range(2):
        queue.leave(running[number])
        assert queue.admit(3) == []
    queue.leave(running[2])
    assert queue.admit(3) == [big]
    assert (queue.running, queue.waiting) == (4, 1)


def test_one_that_is_bigger_than_the_engine_runs_alone() -> None:
    queue = FairQueue(2, 1)
    (running,) = fill(queue, [ticket()])
    big = Ticket("a", 1, "", 10, 0, 1.0, size=8)
    assert fill(queue, [big]) == []
    queue.leave(running)
    assert queue.admit(1) == [big]


def test_leaving_the_line_leaves_no_trace() -> None:
    queue = FairQueue(1, 1)
    running = fill(queue, [ticket()])
    gone, stays = ticket(adapter="x"), ticket(adapter="x", at=1)
    fill(queue, [gone, stays])
    queue.withdraw(gone)
    assert queue.waiting == 1
    assert drain(queue, running) == [stays]


def play(queue: FairQueue, arrivals: list[tuple[float, Ticket, float]]) -> dict[Ticket, float]:
    """Run arrivals (when, who, how long it runs) through; how long each one stood in line."""
    order = itertools.count()
    events: list[tuple[float, int, Ticket, float | None]] = [
        (when, next(order), each, seconds) for when, each, seconds in arrivals
    ]
    lengths = {each: seconds for _, each, seconds in arrivals}
    heapq.heapify(events)
    waits: dict[Ticket, float] = {}
    while events:
        now, _, each, arriving = heapq.heappop(events)
        if arriving is None:
            queue.leave(each)
        else:
            queue.offer(each)
        for admitted in queue.admit(now):
            waits[admitted] = now - admitted.arrived
            heapq.heappush(events, (now + lengths[admitted], next(order), admitted, None))
    return waits


def test_a_flood_of_one_tenant_hardly_delays_another() -> None:
    """64 streams at a time, for ever, against one request a second: the small one is let in at once."""
    flood = [(number * 0.02, ticket("flood", at=number * 0.02), 3.0) for number in range(3000)]
    small = [(1.5 + number, ticket("small", at=1.5 + number), 1.0) for number in range(50)]
    waits = play(FairQueue(64, 8, reserve=8), flood + small)
    mine = [waits[each] for _, each, _ in small]
    assert len(waits) == 3050
    assert max(mine) < 0.1


def test_more_adapters_than_slots_starve_nobody() -> None:
    """Twelve adapters that always have requests, two slots: the longest wait stays in bounds."""
    arrivals = [
        (number * 0.1, ticket(adapter=name, at=number * 0.1), 0.8)
        for number in range(300)
        for name in "abcdefghijkl"
        if (number + ord(name)) % 6 == 0
    ]
    waits = play(FairQueue(16, 2, turn_seconds=1), arrivals)
    assert len(waits) == len(arrivals)
    by_adapter: dict[str, float] = {}
    for each, wait in waits.items():
        by_adapter[each.adapter] = max(by_adapter.get(each.adapter, 0), wait)
    # A round is at most six turns of a turn's second and the 0.8 s of what still runs.
    assert max(by_adapter.values()) < 3 * 6 * 1.8
    assert max(by_adapter.values()) < 3 * min(by_adapter.values())


class AnyTraffic(RuleBasedStateMachine):
    """Whatever comes and goes: places and slots are kept, nobody is lost, no place stays empty in vain."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(4, 2, reserve=1, turn_seconds=1)
        self.waiting: list[Ticket] = []
        self.running: list[Ticket] = []
        self.now = 0.0

    def admit(self) -> None:
        for each in self.queue.admit(self.now):
            self.waiting.remove(each)
            self.running.append(each)

    @rule(
        tenant=st.sampled_from("abc"),
        adapter=st.sampled_from(["", "x", "y", "z"]),
        tokens=st.integers(0, 100),
        priority=st.integers(-3, 3),
        weight=st.sampled_from([0.5, 1, 4]),
    )
    def arrive(self, tenant: str, adapter: str, tokens: int, priority: int, weight: float) -> None:
        one = ticket(tenant, adapter, weight=weight, tokens=tokens, priority=priority, at=self.now)
        self.waiting.append(one)
        self.queue.offer(one)
        self.admit()

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.running))
        self.queue.charge(one, data.draw(st.integers(0, 50)))
        self.running.remove(one)
        self.queue.leave(one)
        self.admit()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(one)
        self.queue.withdraw(one)
        self.admit()

    @rule(seconds=st.floats(0, 3))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def places_and_slots_are_kept(self) -> None:
        assert (self.queue.running, self.queue.waiting) == (len(self.running), len(self.waiting))
        assert len(self.running) <= 4
        assert len({each.adapter for each in self.running} - {""}) <= 2

    @invariant()
    def an_idle_engine_has_no_line(self) -> None:
        assert self.running or not self.waiting

    def teardown(self) -> None:
        for _ in range(10_000):
            if not self.running:
                break
            self.queue.leave(self.running.pop(0))
            self.now += 0.5
            self.admit()
        assert not self.waiting


TestAnyTraffic = AnyTraffic.TestCase
TestAnyTraffic.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
