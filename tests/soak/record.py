"""What happened so far: requests are judged and counted, not kept."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from soak.asks import OK
from soak.conditions import ENGINE_DOWN, Conditions
from soak.judge import Fault, What, judge
from soak.load import Seen
from soak.world import ALIAS, World

from hotshoe.adapter.reference import AdapterName
from hotshoe.serve.usage import used

SWAPPED = "a move took effect"
TOLD = "who was being answered was told that the engine died"
FIRST_TOKEN = "first token"
"""What is measured, in seconds."""

REMEMBERED = 12
"""Of the newest happenings, for whoever watches."""


@dataclass(slots=True)
class Record:
    """outcomes: of requests, by kind and outcome. received: tokens, by tenant, adapter and version.

    done: what was done to the server, and how often.
    figures: name -> seconds, one for each time it was measured.
    """

    conditions: Conditions = field(default_factory=Conditions)
    faults: list[Fault] = field(default_factory=list)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    received: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    figures: dict[str, list[float]] = field(default_factory=dict)
    newest: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    began: float = field(default_factory=time.monotonic)

    async def take(self, seen: Seen, world: World) -> None:
        """Judge a request that ended and count it."""
        org, _, rest = seen.ask.adapter.partition("/")
        name, _, selector = rest.partition("@")
        if selector == ALIAS:
            # While a move is being made nobody here knows yet what the server knows already.
            async with world.lines[AdapterName(org, name)].moving:
                pass
        for fault in judge(seen, world, self.conditions):
            self.fault(fault)
        self.outcomes[seen.ask.kind, seen.outcome] += 1
        if seen.resolved is not None:
            who = seen.ask.tenant, seen.resolved.adapter, seen.resolved.version
            self.received[who] += len(seen.tokens)
        if seen.first_token is not None and seen.outcome == OK:
            self.measured(FIRST_TOKEN, seen.first_token - seen.began)
        if seen.outcome in ENGINE_DOWN:
            seconds = self.conditions.seconds_after_death(seen.began, seen.ended)
            if seconds is not None:
                self.measured(TOLD, seconds)

    def fault(self, fault: Fault) -> None:
        self.faults.append(fault)
        self.say(f"{fault.what.value.upper()}: {fault.text}")

    def say(self, text: str) -> None:
        """Tell whoever watches."""
        self.newest.append(f"{time.monotonic() - self.began:6.1f} s  {text}")

    def measured(self, figure: str, seconds: float) -> None:
        self.figures.setdefault(figure, []).append(seconds)

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Something is done to the server; what goes wrong in the block is a fault."""
        self.say(what)
        self.done[what] += 1
        try:
            yield
        except TimeoutError:
            self.fault(Fault(What.HANG, f"{what}: its effect did not come"))
        except Exception as error:
            self.fault(Fault(What.CHAOS, f"{what}: {error!r}"))

    @property
    def requests(self) -> int:
        return sum(self.outcomes.values())

    @property
    def tokens(self) -> int:
        """Tokens that callers got, each compared."""
        return self.received.total()

    def unbooked(self, ledger: Path) -> list[str]:
        """What callers got more of than the server's ledger says."""
        booked = {each.group: each.output_tokens for each in used(ledger, ("tenant", "adapter", "version"))}
        return [
            f"{count - booked.get(who, 0)} tokens of {' '.join(who)}"
            for who, count in self.received.items()
            if count > booked.get(who, 0)
        ]
