"""The kinds of requests that callers send, and what each may end with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from soak.world import ALIAS, NARROW, TENANTS, World, key_of

PATIENCE_SECONDS = 90.0
"""The deadline of a caller that is in no hurry: longer than an engine takes to come back."""

CONTEXT_TOKENS = 512
"""Of the tiny base."""

OK = "OK"
LEFT = "LEFT"
"""The caller ended it by itself."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. adapter: empty for the base. question: its number at the oracle.

    leaves_after: tokens after which the caller cancels. hangs_up: by closing its connection. pause: of a
    slow reader between two pieces, in seconds. may: how it may end whatever else happens.
    """

    kind: str
    tenant: str
    key: str
    question: int
    tokens: int
    adapter: str = ""
    session: str = ""
    seconds: float = PATIENCE_SECONDS
    streamed: bool = True
    leaves_after: int | None = None
    hangs_up: bool = False
    pause: float = 0.0
    too_long: bool = False
    may: frozenset[str] = frozenset({OK})


Kind = Callable[[Ask, World, random.Random], Ask]


def next_ask(tenant: str, world: World, chance: random.Random) -> Ask:
    """What a caller of this tenant asks next."""
    tokens = chance.randint(1, world.oracle.answer_tokens)
    question = chance.randrange(len(world.oracle.questions))
    plain = Ask("", tenant, key_of(tenant), question, tokens)
    (kind,) = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
    ask = replace(KINDS[kind][1](plain, world, chance), kind=kind)
    return replace(ask, may=ask.may | {"EXHAUSTED"}) if tenant == NARROW else ask


def _by_alias(ask: Ask, world: World, chance: random.Random) -> Ask:
    line = chance.choice(world.lines_of(ask.tenant))
    return replace(ask, adapter=f"{line.name}@{ALIAS}", streamed=chance.random() < 0.8)


def _by_version(ask: Ask, world: World, chance: random.Random) -> Ask:
    line = chance.choice(world.lines_of(ask.tenant))
    return replace(ask, adapter=f"{line.name}@{chance.choice(list(line.versions))}")


def _of_the_base(ask: Ask, world: World, chance: random.Random) -> Ask:
    return replace(ask, streamed=chance.random() < 0.5)


def _in_a_session(ask: Ask, world: World, chance: random.Random) -> Ask:
    return replace(_by_alias(ask, world, chance), session=f"user {chance.randrange(50)}")


def _leaving(ask: Ask, world: World, chance: random.Random) -> Ask:
    ask = _by_alias(ask, world, chance)
    return replace(
        ask,
        streamed=True,
        leaves_after=chance.randrange(ask.tokens),
        hangs_up=chance.random() < 0.3,
        may=frozenset({OK, LEFT}),
    )


def _in_a_hurry(ask: Ask, world: World, chance: random.Random) -> Ask:
    ask = _by_alias(ask, world, chance)
    may = frozenset({OK, "DEADLINE_EXCEEDED", "EXHAUSTED"})  # Exhausted: the line is longer than that.
    return replace(ask, seconds=chance.uniform(0.005, 0.5), may=may)


def _slowly(ask: Ask, world: World, chance: random.Random) -> Ask:
    return replace(_by_alias(ask, world, chance), streamed=True, pause=chance.uniform(0.05, 0.3))


def _anothers(ask: Ask, world: World, chance: random.Random) -> Ask:
    other = chance.choice([each for each in TENANTS if each != ask.tenant])
    line = chance.choice(world.lines_of(other))
    return replace(ask, adapter=str(line.name), may=frozenset({"PERMISSION_DENIED"}))


def _as_nobody(ask: Ask, world: World, chance: random.Random) -> Ask:
    return replace(ask, key="hs_nobody", may=frozenset({"UNAUTHENTICATED"}))


def _what_is_not_there(ask: Ask, world: World, chance: random.Random) -> Ask:
    line = chance.choice(world.lines_of(ask.tenant))
    selector, reason = chance.choice([("nowhere", "ALIAS_NOT_FOUND"), ("v9999", "VERSION_NOT_FOUND")])
    return replace(ask, adapter=f"{line.name}@{selector}", may=frozenset({reason}))


def _too_much(ask: Ask, world: World, chance: random.Random) -> Ask:
    return replace(ask, too_long=True, may=frozenset({"PROMPT_TOO_LONG"}))


def _what_is_bad(ask: Ask, world: World, chance: random.Random) -> Ask:
    bad = [each for each in world.bad if each.version.adapter.org == ask.tenant]
    if not bad:
        return _by_alias(ask, world, chance)
    one = chance.choice(bad)
    return replace(ask, adapter=str(one.version), may=one.reasons)


KINDS: dict[str, tuple[int, Kind]] = {
    "by alias": (30, _by_alias),
    "by version": (12, _by_version),
    "the base": (12, _of_the_base),
    "in a session": (12, _in_a_session),
    "leaves early": (8, _leaving),
    "in a hurry": (6, _in_a_hurry),
    "reads slowly": (3, _slowly),
    "another's adapter": (3, _anothers),
    "as nobody": (2, _as_nobody),
    "what is not there": (3, _what_is_not_there),
    "too long a prompt": (2, _too_much),
    "a bad version": (5, _what_is_bad),
}
"""Out of how many requests each is one, and how it differs from a plain one."""
