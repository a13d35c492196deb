"""The decisions of the pool, without a pool."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hotshoe.serve.slots import Command, Join, Load, Slots, Use, Wait


def _after(slots: Slots, *steps: str) -> Slots:
    """Slots after steps such as `ask a`, `loaded a`, `failed a`, `done a`."""
    for step in steps:
        what, name = step.split()
        match what:
            case "ask":
                slots, _ = slots.on_request(name)
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
        ((), "a", Load(evict=None)),
        (("ask a",), "a", Join()),
        (("ask a", "loaded a"), "a", Use()),
        (("ask a", "failed a"), "a", Load(evict=None)),
        (("ask a",), "b", Load(evict=None)),
        (("ask a", "ask b"), "c", Wait()),
        (("ask a", "loaded a", "ask b", "loaded b"), "c", Wait()),
        (LOADED_AND_IDLE, "c", Load(evict="a")),
        ((*LOADED_AND_IDLE, "ask a", "done a"), "c", Load(evict="b")),
        ((*LOADED_AND_IDLE, "ask a"), "c", Load(evict="b")),
        # Loading, though nobody waits for it any more: it is not yet there to be unloaded.
        (("ask a", "done a", "ask b"), "c", Wait()),
    ],
)
def test_what_to_do_about_a_request(steps: tuple[str, ...], wanted: str, command: Command) -> None:
    _, decided = _after(Slots(2), *steps).on_request(wanted)
    assert decided == command


def test_waiting_takes_no_place_and_no_lease() -> None:
    full = _after(Slots(1), "ask a")
    after, command = full.on_request("b")
    assert (after, command) == (full, Wait())


def test_what_is_leased_is_not_retired() -> None:
    slots, unload = _after(Slots(2), "ask a", "loaded a").retire("a")
    assert not unload
    assert "a" in slots.held


def test_what_is_idle_is_retired() -> None:
    slots, unload = _after(Slots(2), "ask a", "loaded a", "done a").retire("a")
    assert unload
    assert not slots.held


@pytest.mark.parametrize("steps", [(), ("ask a",), ("ask a", "done a")])
def test_what_is_not_loaded_is_not_unloaded(steps: tuple[str, ...]) -> None:
    assert _after(Slots(2), *steps).retire("a")[1] is False


def test_a_release_after_the_load_failed_is_no_error() -> None:
    assert _after(Slots(1), "ask a", "failed a", "done a") == _after(Slots(1), "ask a", "failed a")


class SlotsMachine(RuleBasedStateMachine):
    """Any order of requests, loads, failures and releases, against a plain count of leases."""

    names = st.sampled_from("abcde")

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(3)
        self.leases: dict[str, int] = {}
        self.loading: set[str] = set()
        self.ready: set[str] = set()

    @rule(name=names)
    def request(self, name: str) -> None:
        self.slots, command = self.slots.on_request(name)
        match command:
            case Use():
                assert name in self.ready
            case Join():
                assert name in self.loading
            case Load(evict):
                assert name not in self.ready | self.loading
                if evict is not None:
                    assert evict in self.ready
                    assert not self.leases.get(evict)
                    self.ready.discard(evict)
                self.loading.add(name)
            case Wait():
                assert name not in self.ready | self.loading
                assert all(self.leases.get(each) or each in self.loading for each in self.slots.held)
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
        for name, held in self.slots.held.items():
            assert held.leases == self.leases.get(name, 0)
            assert held.ready == (name in self.ready)


TestAnyOrder = SlotsMachine.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_is_pinned_is_never_chosen_for_unloading() -> None:
    slots, _ = Slots(2).on_request("a")
    slots = slots.on_loaded("a").on_release("a").pin("a", pinned=True)
    slots, _ = slots.on_request("b")
    slots = slots.on_loaded("b").on_release("b")
    after, command = slots.on_request("c")
    assert command == Load("b")
    assert slots.retire("a") == (slots, False)
    assert (after.pinned, after.pin("nobody", pinned=True)) == (1, after)
    assert slots.pin("a", pinned=False).on_request("c")[1] == Load("a")
