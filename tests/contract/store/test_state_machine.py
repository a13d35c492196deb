"""A store does over any sequence of changes what a simple model of it does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.adapters import make_adapter, make_base

from hotshoe.adapter.errors import AliasNotFound, Conflict, Refused, VersionNotFound
from hotshoe.adapter.reference import AdapterName, AdapterRef, VersionNumber
from hotshoe.registry import BaseModel, Registry
from hotshoe.registry.cache import Cache
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.store import Store

SEEDS = range(5)
ALIASES = st.sampled_from(["prod", "staging"])
State = frozenset[tuple[int, int]]
"""What an alias points to: pairs of version number and weight; empty after an unset."""


class Model:
    """Versions as a dict, aliases as stacks: what a rollback goes back on is what lies below."""

    def __init__(self) -> None:
        self.versions: dict[int, int] = {}
        self.newest = 0
        self.stacks: dict[str, list[State]] = {}

    def publish(self, seed: int) -> int:
        for number, content in self.versions.items():
            if content == seed:
                return number
        self.newest += 1
        self.versions[self.newest] = seed
        return self.newest

    def point(self, alias: str, state: State) -> None:
        stack = self.stacks.setdefault(alias, [])
        if not stack or stack[-1] != state:
            stack.append(state)

    def roll_back(self, alias: str) -> bool:
        stack = self.stacks[alias]
        for i in reversed(range(len(stack) - 1)):
            if stack[i] and stack[i] != stack[-1] and all(number in self.versions for number, _ in stack[i]):
                del stack[i + 1 :]
                return True
        return False

    def pointing(self, alias: str) -> State:
        return self.stacks.get(alias, [frozenset()])[-1]


class Comparison(RuleBasedStateMachine):
    """Does the same to one adapter of a registry and to the model."""

    def __init__(self, name: AdapterName, store: Store, adapters: list[Path], base: BaseModel) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        root = Path(self.folder.name)
        knowledge = Knowledge(store, Recollection(root / "knowledge", store.url), fresh_seconds=0)
        self.registry = Registry(store, knowledge, Cache(root / "cache"))
        self.name, self.adapters, self.base = name, adapters, base
        self.model = Model()
        self.moves = 0

    def teardown(self) -> None:
        self.registry.close()
        self.folder.cleanup()

    def any_version(self, draw: int) -> int:
        return sorted(self.model.versions)[draw % len(self.model.versions)]

    @initialize()
    def begin(self) -> None:
        for seed in (0, 1, 2):
            self.publish(seed)

    @rule(seed=st.sampled_from(SEEDS))
    def publish(self, seed: int) -> None:
        version = self.registry.publish(self.adapters[seed], self.name, base=self.base)
        assert version.number == self.model.publish(seed)

    @precondition(lambda self: self.model.versions)
    @rule(alias=ALIASES, draw=st.integers(0, 99))
    def promote(self, alias: str, draw: int) -> None:
        number = self.any_version(draw)
        self.registry.promote(self.name, alias, number)
        self.model.point(alias, frozenset({(number, 1)}))

    @precondition(lambda self: len(self.model.versions) > 1)
    @rule(alias=ALIASES, draw=st.integers(0, 99), weight=st.integers(1, 9))
    def split(self, alias: str, draw: int, weight: int) -> None:
        weights = {self.any_version(draw): weight, self.any_version(draw + 1): 10}
        self.registry.split(self.name, alias, weights)
        self.model.point(alias, frozenset(weights.items()))

    @precondition(lambda self: self.model.versions)
    @rule(alias=ALIASES)
    def promote_what_is_not_there(self, alias: str) -> None:
        with pytest.raises(VersionNotFound):
            self.registry.promote(self.name, alias, self.model.newest + 1)

    @precondition(lambda self: self.model.versions)
    @rule(alias=ALIASES, draw=st.integers(0, 99))
    def promote_from_a_wrong_state(self, alias: str, draw: int) -> None:
        with pytest.raises(Conflict):
            self.registry.promote(self.name, alias, self.any_version(draw), expected="f" * 40)

    @precondition(lambda self: self.model.versions)
    @rule(alias=ALIASES)
    def roll_back(self, alias: str) -> None:
        if alias not in self.model.stacks:
            with pytest.raises(AliasNotFound):
                self.registry.rollback(self.name, alias)
        elif self.model.roll_back(alias):
            self.registry.rollback(self.name, alias)
        else:
            with pytest.raises(Refused):
                self.registry.rollback(self.name, alias)

    @precondition(lambda self: self.model.versions)
    @rule(alias=ALIASES)
    def unset(self, alias: str) -> None:
        if self.model.pointing(alias):
            self.registry.unset(self.name, alias)
            self.model.point(alias, frozenset())
        else:
            with pytest.raises(AliasNotFound):
                self.registry.unset(self.name, alias)

    @precondition(lambda self: self.model.versions)
    @rule(draw=st.integers(0, 99))
    def retire(self, draw: int) -> None:
        number = self.any_version(draw)
        pointed = {n for alias in self.model.stacks for n, _ in self.model.pointing(alias)}
        if number == self.model.newest:
            with pytest.raises(Refused):
                self.registry.store.retire(self.name, number)
        elif number not in pointed:
            self.registry.store.retire(self.name, number)
            del self.model.versions[number]
            self.registry.store.sweep()

    @precondition(lambda self: self.model.versions)
    @invariant()
    def they_agree(self) -> None:
        state = self.registry.show(self.name)
        assert {found.version.number for found in state.versions} == set(self.model.versions)
        pointing = {alias: self.model.pointing(alias) for alias in self.model.stacks}
        assert {
            alias: frozenset((target.version.number, target.weight) for target in found.targets)
            for alias, found in state.aliases.items()
        } == {alias: targets for alias, targets in pointing.items() if targets}
        moves = len(self.registry.history(self.name))
        assert moves >= self.moves
        self.moves = moves

    @precondition(lambda self: self.model.versions)
    @rule(draw=st.integers(0, 99))
    def fetch(self, draw: int) -> None:
        number = self.any_version(draw)
        version = self.registry.resolve(AdapterRef(self.name, VersionNumber(number)))
        with self.registry.fetched(version) as folder:
            name = "adapter_model.safetensors"
            expected = (self.adapters[self.model.versions[number]] / name).read_bytes()
            assert (folder / name).read_bytes() == expected

    @rule()
    def verify(self) -> None:
        self.registry.verify()


EXAMPLES = {"local": 25, "hub": 5, "real hub": 1}


def test_a_store_does_what_a_simple_model_does(
    place: Callable[[], Store], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = make_base(tmp_path / "base")
    adapters = [make_adapter(tmp_path / f"adapter-{seed}", seed) for seed in SEEDS]
    lines = (AdapterName("acme", f"line-{number}") for number in count())

    class Machine(Comparison):
        def __init__(self) -> None:
            super().__init__(next(lines), place(), adapters, base)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES[request.node.callspec.params["place"]],
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
