"""Whether what a caller got is right: who answered, which tokens, and how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from soak.asks import OK
from soak.conditions import Conditions
from soak.load import HUNG, Seen
from soak.world import ALIAS, World

from hotshoe.adapter.reference import AdapterName
from hotshoe.wire.values import Resolved


class What(enum.Enum):
    """Which promise was broken."""

    WRONG = "wrong answer"
    HANG = "hang"
    ERROR = "unexpected error"
    CHAOS = "what was done to it had not the effect it should"


@dataclass(frozen=True, slots=True)
class Fault:
    what: What
    text: str


def judge(seen: Seen, world: World, conditions: Conditions) -> list[Fault]:
    """What is wrong with it; nothing if all is as it must be."""
    found = []
    if seen.outcome == HUNG:
        found.append(_fault(What.HANG, seen, f"had not ended {seen.ended - seen.began:.1f} s after it began"))
    elif seen.outcome not in seen.ask.may and not conditions.excuse(
        seen.outcome, seen.ask.tenant, seen.began, seen.ended
    ):
        found.append(_fault(What.ERROR, seen, f"ended with {seen.outcome}"))
    if seen.resolved is not None:
        found += _wrong_who(seen, seen.resolved, world) or _wrong_tokens(seen, seen.resolved, world)
    elif seen.tokens or seen.outcome == OK:
        found.append(_fault(What.WRONG, seen, "does not say who answered"))
    return found


def _wrong_who(seen: Seen, resolved: Resolved, world: World) -> list[Fault]:
    asked, _, selector = seen.ask.adapter.partition("@")
    if resolved.adapter != asked:
        return [_fault(What.WRONG, seen, f"was answered by {resolved}")]
    if resolved.base.digest != world.base.base.digest or world.voice_of(resolved) is None:
        return [
            _fault(What.WRONG, seen, f"was answered by {resolved} with an identity that nobody published")
        ]
    if not asked:
        return []
    allowed = {selector}
    if selector == ALIAS:
        line = world.lines[AdapterName.parse(asked)]
        allowed = line.may_answer(seen.ask.session, seen.began, seen.ended)
    if resolved.version not in allowed:
        return [_fault(What.WRONG, seen, f"was answered by {resolved}, not by one of {sorted(allowed)}")]
    return []


def _wrong_tokens(seen: Seen, resolved: Resolved, world: World) -> list[Fault]:
    voice = world.voice_of(resolved)
    assert voice is not None, "who answered was found out before"
    if not world.oracle.is_right(voice, seen.ask.question, seen.tokens):
        right = world.oracle.answers[voice][seen.ask.question]
        at = next(n for n, (a, b) in enumerate(zip(seen.tokens, right, strict=False)) if a != b)
        others = [
            other
            for other in world.oracle.answers
            if world.oracle.is_right(other, seen.ask.question, seen.tokens)
        ]
        text = f"has not the tokens of {resolved} from token {at} on"
        return [_fault(What.WRONG, seen, f"{text}, but those of {others}" if others else text)]
    if seen.outcome == OK and len(seen.tokens) != seen.ask.tokens:
        return [_fault(What.WRONG, seen, f"has {len(seen.tokens)} tokens of {seen.ask.tokens}")]
    return []


def _fault(what: What, seen: Seen, text: str) -> Fault:
    ask = seen.ask
    who = f"{ask.tenant}'s request ({ask.kind}, {ask.adapter or 'the base'}, question {ask.question})"
    return Fault(what, f"{who} {text}")
