"""Which adapters are loaded, which request waits, and what to unload: decided here, done by the pool.

Pure: every method returns the next state and what to do about it; nothing is awaited, nothing loaded.
A name is the engine name of a version (`org/name@digest`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Held:
    """A loaded or loading adapter. leases: requests that use it. used_at: in requests, not seconds.

    hits: requests so far. pinned: stays, whatever else wants its place.
    """

    leases: int
    used_at: int
    ready: bool
    hits: int = 1
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """It is loaded: go on."""


@dataclass(frozen=True, slots=True)
class Join:
    """Another request is loading it: wait for that load."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load it, after unloading `evict` if that is set."""

    evict: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Every place is leased: wait for a release, then ask again."""


Command = Use | Join | Load | Wait

_USE, _JOIN = Use(), Join()


@dataclass(frozen=True, slots=True)
class Slots:
    """The adapters that an engine holds, `capacity` at most.

    Nothing leased or pinned is ever chosen for unloading.
    """

    capacity: int
    held: Mapping[str, Held] = field(default_factory=dict)
    clock: int = 0

    def on_request(self, name: str) -> tuple[Slots, Command]:
        """A request wants `name`; unless told to Wait, it holds a lease from now on."""
        held = dict(self.held)
        tick = self.clock + 1
        if (known := held.get(name)) is not None:
            held[name] = Held(known.leases + 1, tick, known.ready, known.hits + 1, known.pinned)
            return Slots(self.capacity, held, tick), _USE if known.ready else _JOIN
        evict = None
        if len(held) >= self.capacity:
            evict = self._idle_longest()
            if evict is None:
                return self, Wait()
            del held[evict]
        held[name] = Held(leases=1, used_at=tick, ready=False)
        return Slots(self.capacity, held, tick), Load(evict)

    def on_loaded(self, name: str) -> Slots:
        """The load that `on_request` commanded succeeded."""
        return replace(self, held={**self.held, name: replace(self.held[name], ready=True)})

    def on_failed(self, name: str) -> Slots:
        """The load failed: its place is free again, and whoever joined it fails with it."""
        return replace(self, held={key: value for key, value in self.held.items() if key != name})

    def on_release(self, name: str) -> Slots:
        """A request is done with `name`. One whose load failed meanwhile is not held any more."""
        known = self.held.get(name)
        if known is None:
            return self
        released = Held(known.leases - 1, known.used_at, known.ready, known.hits, known.pinned)
        return Slots(self.capacity, {**self.held, name: released}, self.clock)

    def retire(self, name: str) -> tuple[Slots, bool]:
        """Give up `name` now if no request uses it; True if it is to be unloaded."""
        known = self.held.get(name)
        if known is None or known.leases or known.pinned or not known.ready:
            return self, False
        return self.on_failed(name), True

    def pin(self, name: str, *, pinned: bool) -> Slots:
        """Keep `name`, or let it go when its place is needed. One that is not held stays unknown."""
        known = self.held.get(name)
        if known is None:
            return self
        return replace(self, held={**self.held, name: replace(known, pinned=pinned)})

    @property
    def pinned(self) -> int:
        """How many are pinned."""
        return sum(held.pinned for held in self.held.values())

    def _idle_longest(self) -> str | None:
        idle = [
            (held.used_at, name)
            for name, held in self.held.items()
            if held.ready and not held.leases and not held.pinned
        ]
        return min(idle)[1] if idle else None
