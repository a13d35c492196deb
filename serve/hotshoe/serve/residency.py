"""Remembers which versions a server had to do with, so that operators can be told where each one is."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Container
from dataclasses import dataclass

from hotshoe.adapter.errors import HotshoeError
from hotshoe.adapter.version import Version
from hotshoe.serve.slots import Held, Slots
from hotshoe.wire.admin import Residency, State

REMEMBERED = 1024
"""Versions that are not held any more; those that are do not count."""


@dataclass(slots=True)
class _Sighting:
    version: Version
    at: float
    error: HotshoeError | None = None


class Sightings:
    """Versions by engine name, the last wanted last. clock: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, _Sighting] = OrderedDict()

    def wanted(self, version: Version, slots: Slots) -> None:
        """A request wants it, or is done with it."""
        name = version.engine_name
        known = self._seen.get(name)
        if known is None:
            self._seen[name] = _Sighting(version, self._clock())
            self._forget_oldest(slots)
        else:
            known.at = self._clock()
            self._seen.move_to_end(name)

    def loaded(self, version: Version) -> None:
        """It works now."""
        if (known := self._seen.get(version.engine_name)) is not None:
            known.error = None

    def failed(self, version: Version, error: HotshoeError) -> None:
        """It could not be fetched or loaded."""
        if (known := self._seen.get(version.engine_name)) is not None:
            known.error = error

    def residency(self, slots: Slots, fetching: Container[str]) -> list[Residency]:
        """Where each version is, in the order of the names."""
        found = [
            self._residency(sighting, slots.held.get(name), fetching=name in fetching)
            for name, sighting in self._seen.items()
        ]
        return sorted(found, key=lambda each: (each.adapter, len(each.version), each.version))

    def _residency(self, sighting: _Sighting, held: Held | None, *, fetching: bool) -> Residency:
        error = sighting.error
        return Residency(
            adapter=str(sighting.version.adapter),
            version=sighting.version.tag,
            state=_state(held, fetching=fetching, failed=error is not None),
            leases=held.leases if held else 0,
            hits=held.hits if held else 0,
            pinned=held.pinned if held else False,
            idle_seconds=0.0 if held and held.leases else self._clock() - sighting.at,
            error_reason=error.reason if error else "",
            error_message=error.message if error else "",
            bytes=held.size if held else 0,
        )

    def _forget_oldest(self, slots: Slots) -> None:
        if len(self._seen) <= REMEMBERED + len(slots.held):
            return
        oldest = next(name for name in self._seen if name not in slots.held)
        del self._seen[oldest]


def _state(held: Held | None, *, fetching: bool, failed: bool) -> State:
    if held is not None:
        return State.LOADED if held.ready else State.LOADING
    if fetching:
        return State.FETCHING
    return State.FAILED if failed else State.ON_DISK
