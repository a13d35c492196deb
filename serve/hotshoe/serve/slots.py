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

    size: bytes of the engine's memory. hits: requests so far. pinned: stays, whatever else wants its place.
    """

    leases: int
    used_at: int
    ready: bool
    size: int
    hits: int = 1
    pinned: bool = False

    # Not by `replace`, here and in `_holding`: every request comes by, and that takes it twice as long.

    def used(self, at: int) -> Held:
        """With one request more."""
        return Held(self.leases + 1, at, self.ready, self.size, self.hits + 1, self.pinned)

    def released(self) -> Held:
        """With one request less."""
        return Held(self.leases - 1, self.used_at, self.ready, self.size, self.hits, self.pinned)


@dataclass(frozen=True, slots=True)
class Use:
    """It is loaded: go on."""


@dataclass(frozen=True, slots=True)
class Join:
    """Another request is loading it: wait for that load."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load it, after unloading what `evict` names."""

    evict: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Too much is leased: wait for a release, then ask again."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """No release would make room: `room` bytes are all that is not pinned."""

    room: int


Command = Use | Join | Load | Wait | Refuse


@dataclass(frozen=True, slots=True)
class Slots:
    """The adapters that an engine holds: `capacity` at most, of `capacity_bytes` together at most.

    Nothing leased or pinned is ever chosen for unloading.
    """

    capacity: int
    capacity_bytes: int
    held: Mapping[str, Held] = field(default_factory=dict)
    clock: int = 0

    def on_request(self, name: str, size: int) -> tuple[Slots, Command]:
        """A request wants `name`; unless told to Wait or refused, it holds a lease from now on."""
        held = dict(self.held)
        tick = self.clock + 1
        if (known := held.get(name)) is not None:
            held[name] = known.used(tick)
            return self._holding(held, tick), Use() if known.ready else Join()
        if size > (room := self.capacity_bytes - self.pinned_bytes):
            return self, Refuse(room)
        evict = self._in_the_way(size)
        if evict is None:
            return self, Wait()
        for each in evict:
            del held[each]
        held[name] = Held(leases=1, used_at=tick, ready=False, size=size)
        return self._holding(held, tick), Load(evict)

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
        return self._holding({**self.held, name: known.released()}, self.clock)

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

    def may_pin(self, name: str) -> bool:
        """Whether a place, and room for another one as large as `name`, would be left for the others."""
        held = self.held[name]
        crowded = self.pinned + 1 >= self.capacity or self.pinned_bytes + 2 * held.size > self.capacity_bytes
        return held.pinned or not crowded

    @property
    def size(self) -> int:
        """Bytes of all that is held."""
        return sum(held.size for held in self.held.values())

    @property
    def pinned(self) -> int:
        """How many are pinned."""
        return sum(held.pinned for held in self.held.values())

    @property
    def pinned_bytes(self) -> int:
        """Bytes of those that are."""
        return sum(held.size for held in self.held.values() if held.pinned)

    def _holding(self, held: Mapping[str, Held], clock: int) -> Slots:
        return Slots(self.capacity, self.capacity_bytes, held, clock)

    def _in_the_way(self, size: int) -> tuple[str, ...] | None:
        """What to unload, the longest unused first, so that another of `size` fits; None if it can't."""
        count, left = len(self.held), self.capacity_bytes - self.size
        if count < self.capacity and size <= left:
            return ()
        chosen: list[str] = []
        idle = sorted(
            (held.used_at, name)
            for name, held in self.held.items()
            if held.ready and not held.leases and not held.pinned
        )
        for _, name in idle:
            if count - len(chosen) < self.capacity and size <= left:
                break
            chosen.append(name)
            left += self.held[name].size
        return tuple(chosen) if count - len(chosen) < self.capacity and size <= left else None
