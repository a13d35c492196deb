"""The decisions of the pool, without a pool."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotshoe.serve.slots import Command, Join, Load, Refuse, Slots, Use, Wait


def _after(slots: Slots, *steps: str) -> Slots:
    """Slots after steps such as `ask a`, `loaded a`, `failed a`, `done a`."""
    for step in steps:
        what, name = step.split()
        match what:
            case "ask":
                slots, _ = slots.on_request(name, 1)
            case "loaded":
                slots = slots.on_loaded(name)
            case "failed":
                slots = slots.on_failed(name)
            case "done":
                slots = slots.on_release(name)
    return slots


LOADED_AND_IDLE = ("ask a", "loaded a", "done a", "ask b", "loaded b", "done b")


@pytest.mark.parametrize(
    ("steps", "wanted", "command"),
    [
        ((), "a", Load(())),
        (("ask a",), "a", Join()),
        (("ask a", "loaded a"), "a", Use()),
        (("ask a", "failed a"), "a", Load(())),
        (("ask a",), "b", Load(())),
        (("ask a", "ask b"), "c", Wait()),
        (("ask a", "loaded a", "ask b", "loaded b"), "c", Wait()),
        (LOADED_AND_IDLE, "c", Load(("a",))),
        ((*LOADED_AND_IDLE, "ask a", "done a"), "c", Load(("b",))),
        ((*LOADED_AND_IDLE, "ask a"), "c", Load(("b",))),
        # Loading, though nobody waits for it any more: it is not yet there to be unloaded.
        (("ask a", "done a", "ask b"), "c", Wait()),
    ],
)
def test_what_to_do_about_a_request(steps: tuple[str, ...], wanted: str, command: Command) -> None:
    _, decided = _after(Slots(2, 99), *steps).on_request(wanted, 1)
    assert decided == command


def test_waiting_takes_no_place_and_no_lease() -> None:
    full = _after(Slots(1, 99), "ask a")
    after, command = full.on_request("b", 1)
    assert (after, command) == (full, Wait())


def test_what_is_leased_is_not_retired() -> None:
    slots, unload = _after(Slots(2, 99), "ask a", "loaded a").retire("a")
    assert not unload
    assert "a" in slots.held


def test_what_is_idle_is_retired() -> None:
    slots, unload = _after(Slots(2, 99), "ask a", "loaded a", "done a").retire("a")
    assert unload
    assert not slots.held


@pytest.mark.parametrize("steps", [(), ("ask a",), ("ask a", "done a")])
def test_what_is_not_loaded_is_not_unloaded(steps: tuple[str, ...]) -> None:
    assert _after(Slots(2, 99), *steps).retire("a")[1] is False


def test_a_release_after_the_load_failed_is_no_error() -> None:
    assert _after(Slots(1, 99), "ask a", "failed a", "done a") == _after(Slots(1, 99), "ask a", "failed a")


ROOM = 10
SIZES = {"a": 1, "b": 2, "c": 4, "d": 7, "e": 11}


class SlotsMachine(RuleBasedStateMachine):
    """Any order of requests, loads, failures and releases, against a plain count of leases."""

    names = st.sampled_from("abcde")

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(3, ROOM)
        self.leases: dict[str, int] = {}
        self.loading: set[str] = set()
        self.ready: set[str] = set()

    @rule(name=names)
    def request(self, name: str) -> None:
        size = SIZES[name]
        self.slots, command = self.slots.on_request(name, size)
        match command:
            case Use():
                assert name in self.ready
            case Join():
                assert name in self.loading
            case Load(evict):
                assert name not in self.ready | self.loading
                for each in evict:
                    assert each in self.ready
                    assert not self.leases.get(each)
                    self.ready.discard(each)
                self.loading.add(name)
            case Wait():
                assert name not in self.ready | self.loading
                busy = [each for each in self.slots.held if self.leases.get(each) or each in self.loading]
                assert len(busy) == self.slots.capacity or sum(SIZES[each] for each in busy) + size > ROOM
                return
            case Refuse():
                assert size > ROOM
                return
        self.leases[name] = self.leases.get(name, 0) + 1

    @precondition(lambda self: self.loading)
    @rule(data=st.data())
    def load_ends(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.loading)))
        self.loading.discard(name)
        if data.draw(st.booleans()):
            self.slots = self.slots.on_loaded(name)
            self.ready.add(name)
        else:
            self.slots = self.slots.on_failed(name)
            self.leases.pop(name, None)

    @precondition(lambda self: any(self.leases.values()))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(name for name, count in self.leases.items() if count)))
        self.leases[name] -= 1
        self.slots = self.slots.on_release(name)

    @rule(name=names)
    def retire(self, name: str) -> None:
        self.slots, unload = self.slots.retire(name)
        assert unload == (name in self.ready and not self.leases.get(name))
        if unload:
            self.ready.discard(name)

    @invariant()
    def nothing_is_lost_and_nothing_too_much_is_held(self) -> None:
        assert set(self.slots.held) == self.ready | self.loading
        assert len(self.slots.held) <= self.slots.capacity
        assert self.slots.size <= ROOM
        for name, held in self.slots.held.items():
            assert held.leases == self.leases.get(name, 0)
            assert held.ready == (name in self.ready)


TestAnyOrder = SlotsMachine.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_is_pinned_is_never_chosen_for_unloading() -> None:
    slots, _ = Slots(2, 99).on_request("a", 1)
    slots = slots.on_loaded("a").on_release("a").pin("a", pinned=True)
    slots, _ = slots.on_request("b", 1)
    slots = slots.on_loaded("b").on_release("b")
    after, command = slots.on_request("c", 1)
    assert command == Load(("b",))
    assert slots.retire("a") == (slots, False)
    assert (after.pinned, after.pin("nobody", pinned=True)) == (1, after)
    assert slots.pin("a", pinned=False).on_request("c", 1)[1] == Load(("a",))


def sized(*held: tuple[str, int]) -> Slots:
    """Loaded and idle, in that order, in a room of 10."""
    slots = Slots(9, 10)
    for name, size in held:
        slots = slots.on_request(name, size)[0].on_loaded(name).on_release(name)
    return slots


@pytest.mark.parametrize(
    ("held", "size", "command"),
    [
        ((("a", 4), ("b", 4)), 2, Load(())),
        ((("a", 4), ("b", 4)), 3, Load(("a",))),
        ((("a", 4), ("b", 4)), 7, Load(("a", "b"))),
        ((("a", 1), ("b", 1), ("c", 8)), 2, Load(("a", "b"))),
        ((("a", 10),), 10, Load(("a",))),
        ((("a", 1),), 11, Refuse(10)),
    ],
)
def test_as_many_leave_as_are_in_the_way_the_longest_unused_first(
    held: tuple[tuple[str, int], ...], size: int, command: Command
) -> None:
    assert sized(*held).on_request("new", size)[1] == command


def test_what_is_large_waits_for_what_is_leased_and_unloads_nothing_for_nothing() -> None:
    slots, _ = sized(("a", 4), ("b", 4)).on_request("b", 4)
    assert slots.on_request("new", 7) == (slots, Wait())
    assert slots.on_release("b").on_request("new", 7)[1] == Load(("a", "b"))


def test_what_would_never_fit_beside_the_pinned_is_refused_and_does_not_wait() -> None:
    slots = sized(("a", 4), ("b", 4)).pin("a", pinned=True)
    assert slots.on_request("new", 7)[1] == Refuse(6)
    assert slots.on_request("new", 6)[1] == Load(("b",))


def test_pins_leave_room_for_another_as_large() -> None:
    slots = sized(("a", 3), ("b", 4))
    assert slots.may_pin("a")
    assert not slots.pin("a", pinned=True).may_pin("b")
    assert slots.pin("a", pinned=True).may_pin("a")  # Once more changes nothing.
