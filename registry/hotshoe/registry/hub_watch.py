"""Noticing what moved on a Hub that tells nobody by itself, without spending its patience.

A free account may ask about 1,000 times in 5 minutes, for all its processes together. So one look at an
adapter is one request, and comes at most every `poll_seconds`, rarer where many are watched; a webhook's
hint makes it come at once. The cursor holds what its owner has seen, so it outlives the process.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hotshoe.adapter.errors import AdapterNotFound, HotshoeError, InvalidRequest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.store import Refs
from hotshoe.registry.values import Change

SECONDS_PER_LOOK = 1.0
"""A look a second at most, on average: 300 of the 1,000 requests that five minutes have."""

_AT_ONCE = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was there at the last look."""

    newest: int = 0
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Look:
    """When it was, what was last seen (None: nothing ever), and why it failed, if it did."""

    at: float
    seen: Seen | None
    error: HotshoeError | None = None


_NEVER = _Look(float("-inf"), None)


def interval(poll_seconds: float, watched: int) -> float:
    """Seconds between two looks at the same adapter."""
    return max(poll_seconds, watched * SECONDS_PER_LOOK) if poll_seconds else 0.0


def differences(adapter: AdapterName, before: Seen, now: Seen) -> Iterable[Change]:
    """New versions first, then the aliases that moved; an alias that went is none."""
    for number in range(before.newest + 1, now.newest + 1):
        yield Change(adapter, "", f"v{number}")
    for alias, etag in sorted(now.aliases.items()):
        if before.aliases.get(alias) != etag:
            yield Change(adapter, alias, etag)


class Lookout:
    """Looks at adapters when it is time, and tells each owner of a cursor what is new to them.

    look: asks for an adapter's refs, one request. survey: asks which adapters there are, also for those
    who watch them all. clock: seconds, monotonic.
    """

    def __init__(
        self,
        look: Callable[[AdapterName], Refs],
        survey: Callable[[], Collection[AdapterName]],
        poll_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._survey = survey
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._looks: dict[AdapterName, _Look] = {}
        self._hinted: set[AdapterName] = set()
        self._all: tuple[float, Collection[AdapterName]] = (float("-inf"), ())
        self._lock = threading.Lock()

    def hint(self, adapter: AdapterName) -> None:
        """This adapter moved, somebody says: look at once when asked next."""
        with self._lock:
            if adapter in self._looks:
                self._hinted.add(adapter)
            else:
                self._all = (float("-inf"), self._all[1])

    def changes(
        self, cursor: str | None, adapters: Collection[AdapterName] | None
    ) -> tuple[list[Change], str]:
        """See `Store.changes`. An adapter that cannot be looked at stays as it was seen last; raises only
        where that is so of all that were due."""
        known = {} if cursor is None else _parse(cursor)
        now = self._refreshed(self._everything() if adapters is None else adapters)
        changes: list[Change] = []
        if cursor is not None:
            for adapter in sorted(now):
                changes += differences(adapter, known.get(adapter, Seen()), now[adapter])
        return changes, _text({**known, **now})

    def _everything(self) -> Collection[AdapterName]:
        began = self._clock()
        if began - self._all[0] >= self._poll_seconds:
            self._all = (began, self._survey())
        return self._all[1]

    def _refreshed(self, adapters: Collection[AdapterName]) -> dict[AdapterName, Seen]:
        due = self._clock() - interval(self._poll_seconds, len(adapters))
        with self._lock:
            before = {adapter: self._looks.get(adapter, _NEVER) for adapter in adapters}
            hinted = self._hinted & before.keys()
            # Taken before the looks: a hint that comes during one is for the next.
            self._hinted -= hinted
        stale = [adapter for adapter, look in before.items() if look.at <= due or adapter in hinted]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            looks = dict(
                zip(stale, pool.map(self._look_at, stale, [before[each] for each in stale]), strict=True)
            )
        with self._lock:
            self._looks |= looks
        now = before | looks
        errors = {adapter: look.error for adapter, look in now.items() if look.error}
        # While nothing can be seen at all, that is said each time, also when no look was due.
        if errors and len(errors) == len(now):
            raise next(iter(errors.values()))
        if new := [adapter for adapter in errors if before[adapter].error is None]:
            log.warning(
                "%d adapters cannot be looked at, their aliases stay as they are; the first is %s: %s",
                *(len(new), new[0], errors[new[0]]),
            )
        return {adapter: look.seen for adapter, look in now.items() if look.seen is not None}

    def _look_at(self, adapter: AdapterName, before: _Look) -> _Look:
        # The time before the request: what moves during it is seen next time.
        began = self._clock()
        try:
            refs = self._look(adapter)
        except AdapterNotFound:
            # Also what a Hub says to a token that has just changed: what was told is not told again after it.
            return _Look(began, before.seen or Seen())
        except HotshoeError as error:
            # The attempt counts: it is not made again before the next look is due.
            return _Look(began, before.seen, error)
        return _Look(began, Seen(refs.newest, dict(refs.aliases)))


def _text(seen: Mapping[AdapterName, Seen]) -> str:
    return json.dumps({str(adapter): [each.newest, dict(each.aliases)] for adapter, each in seen.items()})


def _parse(cursor: str) -> dict[AdapterName, Seen]:
    try:
        return {
            AdapterName.parse(name): Seen(int(newest), dict(aliases))
            for name, (newest, aliases) in json.loads(cursor).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidRequest("the cursor is not one that this registry gave: begin with none") from error
