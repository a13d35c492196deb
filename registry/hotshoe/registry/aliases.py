"""What an alias may point to and how it walks back. Pure: no store, no clock."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from hotshoe.adapter.errors import AliasNotFound, InvalidRequest, Refused
from hotshoe.adapter.reference import Alias
from hotshoe.registry.values import MAX_TARGETS, MAX_WEIGHT, Move, Target, targets_text

_SHARE = re.compile(r"v([1-9][0-9]{0,8}):([1-9][0-9]{0,4})")


def parse_split(text: str) -> tuple[str, dict[int, int]]:
    """Parse `canary=v8:10,v7:90` to the alias and its weights by version number."""
    alias, equals, shares = text.partition("=")
    weights: dict[int, int] = {}
    for share in shares.split(","):
        match = _SHARE.fullmatch(share.strip())
        if not equals or match is None or int(match[1]) in weights:
            raise InvalidRequest(f"{text!r} is no split: write it like canary=v8:10,v7:90, each version once")
        weights[int(match[1])] = int(match[2])
    return Alias(alias).name, checked_weights(weights)


def checked_weights(weights: Mapping[int, int]) -> dict[int, int]:
    """The weights, heaviest first; raise InvalidRequest unless there are 1 to 8 of them, all sane."""
    if not 1 <= len(weights) <= MAX_TARGETS:
        raise InvalidRequest(f"an alias points to 1 to {MAX_TARGETS} versions, not to {len(weights)}")
    for number, weight in weights.items():
        if not 1 <= weight <= MAX_WEIGHT:
            raise InvalidRequest(
                f"the weight of v{number} is {weight}: give a whole number from 1 to {MAX_WEIGHT}"
            )
    return dict(sorted(weights.items(), key=lambda item: (-item[1], -item[0])))


def choose(targets: Sequence[Target], session: str | None) -> Target:
    """One target by weight: always the same for a session, a throw of dice for none.

    Weighted rendezvous hashing (Schindelhauer and Schomaker 2005): when weights change, only those
    sessions move that have to.
    """
    if len(targets) == 1:
        return targets[0]
    if session is None:
        return random.choices(targets, [target.weight for target in targets])[0]
    return max(targets, key=lambda target: _score(session, target))


def _score(session: str, target: Target) -> float:
    digest = hashlib.sha256(f"{target.version.commit}\0{session}".encode()).digest()
    # Strictly inside (0, 1), so that the logarithm is finite and not 0.
    uniform = (int.from_bytes(digest[:6]) + 0.5) / 2**48
    return -target.weight / math.log(uniform)


def previous_targets(moves: Iterable[Move], live: frozenset[int]) -> tuple[Target, ...]:
    """Where a rollback goes: the last state before this one that was not itself rolled back.

    So rolling back twice goes two states back, not to and fro. States that name a version which is not
    `live` any more are passed over. Raises Refused where nothing is left to go back to.
    """
    states: list[tuple[Target, ...]] = []
    for move in moves:
        if move.action == "rollback":
            while len(states) > 1 and states[-1] != move.to:
                states.pop()
        elif not states or states[-1] != move.to:
            states.append(move.to)
    for state in reversed(states[:-1]):
        if state and all(target.version.number in live for target in state) and state != states[-1]:
            return state
    now = targets_text(states[-1]) if states else "nothing"
    raise Refused(f"there is nothing to roll back to: it points to {now}, and to nothing else before")


def move_at(moves: Sequence[Move], when: datetime) -> Move:
    """The move that was in force at `when`; `moves` are those of one alias, newest last.

    Raises AliasNotFound where the alias pointed to nothing then.
    """
    before = [move for move in moves if move.at <= when]
    if before and before[-1].to:
        return before[-1]
    name = f"{moves[0].adapter}@{moves[0].alias}" if moves else "the alias"
    raise AliasNotFound(f"{name} pointed to nothing at {when.isoformat()}: its history tells when it did")
