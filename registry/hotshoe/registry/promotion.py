"""Moving an alias: compare-and-set over any store, once however often it is sent."""

from __future__ import annotations

import getpass
import random
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hotshoe.adapter.errors import Conflict, RegistryUnavailable
from hotshoe.adapter.reference import AdapterName, Alias
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.store import Refs, Store
from hotshoe.registry.values import Marker, Move, Target, targets_text
from hotshoe.registry.words import NAME_CHARACTERS, TEXT_CHARACTERS, check_words

ATTEMPTS = 200
"""How often a race is run again before it is given up; each lost race is one that somebody else won."""

UNSET = ""
"""As `expected`: the alias must point nowhere yet."""

_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Intent:
    """One intended move: who wants it, why, and from which state (None: from any); InvalidRequest.

    weights: by version number, where the move itself says where to; None for one that depends on the state.
    """

    action: str
    expected: str | None
    actor: str
    reason: str
    promotion_id: str | None
    weights: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        check_words(
            actor=(self.actor, NAME_CHARACTERS),
            reason=(self.reason, TEXT_CHARACTERS),
            promotion_id=(self.promotion_id or "", NAME_CHARACTERS),
        )


def move_alias(
    store: Store,
    known: Knowledge,
    name: AdapterName,
    alias: str,
    intent: Intent,
    choose: Callable[[Refs], tuple[Target, ...]],
) -> Move:
    """Point `alias` at what `choose` says of the refs there are; return the move that did it.

    That is an older move if the promotion id was seen before, or if there is no id and the alias points
    there already. With an id even that is written down: sent again, it must change nothing. Raises Conflict
    if the alias is not in the expected state or another move had the id, and whatever `choose` raises.
    """
    Alias(alias)
    # The log also tells where the alias is, so who needs it reads it first.
    log = known.moves(name, alias) if intent.promotion_id or intent.action == "rollback" else ()
    if intent.promotion_id and (done := _made(log, intent.promotion_id)):
        _check_same(done, intent)
        return done
    promotion_id = intent.promotion_id or uuid.uuid4().hex
    for attempt in range(ATTEMPTS):
        refs = store.refs(name)
        head = known.head(refs, alias)
        if head and head.promotion_id == promotion_id:
            return head
        _check_expected(name, alias, head, intent.expected)
        to = choose(refs)
        if head and head.to == to and not intent.promotion_id:
            return head
        marker = _marker(intent, promotion_id, head, to)
        try:
            new = store.move_alias(name, alias, marker, expected=marker.previous)
        except Conflict:
            pause(attempt)
        except RegistryUnavailable:
            # The answer may be what was lost, not the move.
            if done := _made(store.moves(name, alias), promotion_id):
                return done
            raise
        else:
            known.forget(name)
            return Move(name, alias, new, marker)
    raise RegistryUnavailable(f"{name}@{alias} is being moved by too many at once: try again")


def pause(attempt: int) -> None:
    """Let the others pass; longer, and less predictably, the more often the race was lost."""
    time.sleep(random.uniform(0, _PAUSE_SECONDS * min(2**attempt, 16)))


def user() -> str:
    """Who runs this process, for the log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _marker(intent: Intent, promotion_id: str, head: Move | None, to: tuple[Target, ...]) -> Marker:
    """What is written down of a move from `head`. Its time is never before that of the move it follows,
    whatever the clocks of those who move say: what an alias pointed to at a time is read from them."""
    now = datetime.now(UTC)
    at, before, previous = (max(now, head.at), head.to, head.etag) if head else (now, (), None)
    actor = intent.actor or user()
    return Marker(intent.action, to, before, previous, actor, intent.reason, promotion_id, at)


def _made(moves: Iterable[Move], promotion_id: str) -> Move | None:
    return next((move for move in moves if move.promotion_id == promotion_id), None)


def _check_same(done: Move, intent: Intent) -> None:
    """Raise Conflict if what was done under this promotion id is not what is asked for now."""
    weights = {target.version.number: target.weight for target in done.to}
    if done.action != intent.action or (intent.weights is not None and weights != intent.weights):
        raise Conflict(
            f"the promotion id {done.promotion_id!r} is that of another move, {done.action} of "
            f"{done.adapter}@{done.alias} to {targets_text(done.to)}: every move needs an id of its own",
            details={"adapter": str(done.adapter), "alias": done.alias, "etag": done.etag},
        )


def _check_expected(name: AdapterName, alias: str, head: Move | None, expected: str | None) -> None:
    """Raise Conflict unless the alias is where the caller believes it to be."""
    there = head.etag if head and head.to else UNSET
    # An unset alias has an etag too, for those who read it in the history.
    if expected is None or expected == there or (head and expected == head.etag):
        return
    target = targets_text(head.to if head else ())
    raise Conflict(
        f"{name}@{alias} is at {target} with etag {there or 'none'}, not at etag {expected or 'none'}: "
        "look at it again, then promote",
        details={"adapter": str(name), "alias": alias, "etag": there, "target": target},
    )
