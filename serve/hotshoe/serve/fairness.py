"""Who is let into the engine next: fair between tenants by tokens, aware of adapter slots.

Pure but for its own state: no clock, nothing awaited. Between tenants it counts what each was served, as
virtual tokens divided by its weight, and the one served least goes first; who comes back from a pause
starts level with the others, so that idle time is not saved up.
Source: virtual token counters, Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024.

An engine that is given more adapters than it has slots runs them in waves to completion, first come first
served. So no more adapters are let in than there are slots, and one that has had its turn lets no new
requests in while others wait for a slot.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

PROMPT_TOKEN_COST = 1.0
OUTPUT_TOKEN_COST = 2.0
"""What tokens cost in virtual tokens: one of output takes a whole step, those of a prompt share one."""

PRIORITY_SECONDS = 5.0
"""One step of priority is worth this much waiting, so that what is unimportant gets its turn too."""

TURN_SECONDS = 2.0


@dataclass(eq=False, slots=True)
class Ticket:
    """A request in line or in the engine.

    adapter: its engine name; empty for the base, which needs no slot. priority orders a tenant's own
    requests, more first. arrived: seconds. size: the places that it takes, one an answer.
    """

    tenant: str
    weight: float
    adapter: str
    prompt_tokens: int
    priority: int
    arrived: float
    size: int = 1


@dataclass(eq=False, slots=True)
class _Tenant:
    weight: float = 1.0
    served: float = 0.0
    running: int = 0
    # A heap by adapter of (when it is due, tie-breaker, ticket): what blocks one adapter blocks no other.
    lines: dict[str, list[tuple[float, int, Ticket]]] = field(default_factory=dict)
    waiting: int = 0


@dataclass(eq=False, slots=True)
class _Active:
    since: float
    running: int = 0


class FairQueue:
    """The line in front of one engine.

    places: requests that the engine runs in one step. slots: adapters that it runs in one step.
    reserve: the last places, free only for tenants that hold less than their share, so that a flood of
    one does not fill the engine before the next one comes.
    """

    def __init__(self, places: int, slots: int, *, reserve: int = 0, turn_seconds: float = TURN_SECONDS):
        self._places = places
        self._slots = slots
        self._reserve = reserve
        self._turn_seconds = turn_seconds
        self._tenants: dict[str, _Tenant] = {}
        self._active: dict[str, _Active] = {}
        self._order = itertools.count()
        self.running = 0
        self.waiting = 0

    def offer(self, ticket: Ticket) -> None:
        """Stand in line."""
        tenant = self._tenants.setdefault(ticket.tenant, _Tenant())
        tenant.weight = ticket.weight
        if not tenant.waiting and not tenant.running:
            present = [each.served for each in self._tenants.values() if each.waiting or each.running]
            tenant.served = max(tenant.served, min(present, default=0.0)) if present else 0.0
        due = ticket.arrived - ticket.priority * PRIORITY_SECONDS
        heapq.heappush(tenant.lines.setdefault(ticket.adapter, []), (due, next(self._order), ticket))
        tenant.waiting += 1
        self.waiting += 1

    def withdraw(self, ticket: Ticket) -> None:
        """Leave the line without having been let in."""
        tenant = self._tenants[ticket.tenant]
        line = [entry for entry in tenant.lines[ticket.adapter] if entry[2] is not ticket]
        self._shorten(tenant, ticket.adapter, line)
        heapq.heapify(line)

    def admit(self, now: float) -> list[Ticket]:
        """Let in whoever may come in now, in this order; each one leaves by `leave`."""
        admitted: list[Ticket] = []
        while (ticket := self._next(now)) is not None:
            tenant = self._tenants[ticket.tenant]
            line = tenant.lines[ticket.adapter]
            heapq.heappop(line)
            self._shorten(tenant, ticket.adapter, line)
            tenant.running += ticket.size
            self.running += ticket.size
            if ticket.adapter:
                self._active.setdefault(ticket.adapter, _Active(since=now)).running += 1
            self._charge(ticket, ticket.prompt_tokens * PROMPT_TOKEN_COST)
            admitted.append(ticket)
        return admitted

    def charge(self, ticket: Ticket, output_tokens: int) -> None:
        """Output was made for a ticket that is in."""
        self._charge(ticket, output_tokens * OUTPUT_TOKEN_COST)

    def leave(self, ticket: Ticket) -> None:
        """A ticket that was let in is done."""
        self._tenants[ticket.tenant].running -= ticket.size
        self.running -= ticket.size
        if ticket.adapter:
            active = self._active[ticket.adapter]
            active.running -= 1
            if not active.running:
                del self._active[ticket.adapter]
        if not self.running and not self.waiting:
            self._tenants.clear()

    def waiting_of(self, tenant: str) -> int:
        """How many of a tenant's requests stand in line."""
        known = self._tenants.get(tenant)
        return known.waiting if known else 0

    def share_of(self, tenant: str, weight: float) -> float:
        """The part of the engine that is a tenant's, 0 to 1, among those who are here now and itself."""
        others = sum(
            each.weight
            for name, each in self._tenants.items()
            if name != tenant and (each.waiting or each.running)
        )
        return weight / (weight + others)

    def _next(self, now: float) -> Ticket | None:
        free = self._places - self.running
        if free <= 0 or not self.waiting:
            return None
        waiting = [(each.served, name) for name, each in self._tenants.items() if each.waiting]
        resting = self._resting(now)
        for _, name in sorted(waiting):
            tenant = self._tenants[name]
            if free <= self._reserve and tenant.running >= self._fair_places(name, tenant):
                continue
            heads = [line[0] for adapter, line in tenant.lines.items() if self._has_slot(adapter, resting)]
            if heads:
                ticket = min(heads)[2]
                # One that does not fit yet is waited for, or small ones would pass it for ever.
                return ticket if ticket.size <= free or not self.running else None
        return None

    def _fair_places(self, name: str, tenant: _Tenant) -> float:
        # As if one more were here: the reserve is for somebody who may come.
        share = self.share_of(name, tenant.weight)
        return self._places * min(share, tenant.weight / (tenant.weight + 1))

    def _has_slot(self, adapter: str, resting: frozenset[str]) -> bool:
        if not adapter:
            return True
        if adapter in self._active:
            return adapter not in resting
        return len(self._active) < self._slots

    def _resting(self, now: float) -> frozenset[str]:
        """Adapters that let nobody new in, so that those who wait for a slot get one: longest first."""
        if len(self._active) < self._slots:
            return frozenset()
        blocked = {
            adapter
            for tenant in self._tenants.values()
            for adapter in tenant.lines
            if adapter and adapter not in self._active
        }
        if not blocked:
            return frozenset()
        over = [
            (active.since, name)
            for name, active in self._active.items()
            if now - active.since >= self._turn_seconds
        ]
        return frozenset(name for _, name in heapq.nsmallest(len(blocked), over))

    def _shorten(self, tenant: _Tenant, adapter: str, line: list[tuple[float, int, Ticket]]) -> None:
        """One ticket less in a tenant's line."""
        if line:
            tenant.lines[adapter] = line
        else:
            del tenant.lines[adapter]
        tenant.waiting -= 1
        self.waiting -= 1

    def _charge(self, ticket: Ticket, cost: float) -> None:
        tenant = self._tenants[ticket.tenant]
        tenant.served += cost / tenant.weight
