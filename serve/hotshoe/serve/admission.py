"""Stands in front of the engine: refuses what is over a limit, lines the rest up fairly, and drains."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from hotshoe.adapter.errors import DeadlineExceeded, Draining, Exhausted, Refused
from hotshoe.serve.fairness import FairQueue, Ticket
from hotshoe.serve.limits import Bucket
from hotshoe.serve.tenants import Limits, Tenant

QUEUED = 4096
"""Requests in line, of all tenants together: each holds a prompt in memory."""

_SMOOTHING = 0.1
_FIRST_GUESS_SECONDS = 0.05


@dataclass(slots=True)
class _Account:
    """What a tenant takes now."""

    limits: Limits
    requests: Bucket | None
    tokens: Bucket | None

    @classmethod
    def open(cls, limits: Limits, now: float) -> _Account:
        rate, tokens = limits.requests_per_second, limits.tokens_per_minute
        return cls(
            limits,
            Bucket.full(rate, max(1.0, rate), now) if rate else None,
            Bucket.full(tokens / 60, tokens, now) if tokens else None,
        )


class Admission:
    """Lets requests in. All methods belong to one event loop.

    clock: seconds that never go back.
    """

    def __init__(self, queue: FairQueue, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._visitors: Counter[str] = Counter()
        self._turns: dict[Ticket, asyncio.Future[None]] = {}
        self._inside: set[Ticket] = set()
        self._draining = False
        self._ends = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._left_at = clock()
        self._seconds_per_place = _FIRST_GUESS_SECONDS

    def visit(self, tenant: Tenant) -> Visit:
        """For `with`: count a request from its arrival to its end.

        Raises Draining, or Exhausted where the tenant is over its requests a second, its tokens a minute
        or its requests at once.
        """
        return Visit(self, tenant)

    def place(
        self,
        tenant: Tenant,
        *,
        adapter: str,
        prompt_tokens: int,
        answers: int = 1,
        priority: int = 0,
        seconds_left: float | None = None,
    ) -> Place:
        """For `async with`: wait in line for a place in the engine; it is given back when the block ends.

        adapter: its engine name, empty for the base. answers: how many are generated at once.
        seconds_left: until the request's deadline. Raises Exhausted where the line is full, or so long
        that the deadline would pass in it; DeadlineExceeded if it has.
        """
        self._check_line(tenant, seconds_left)
        arrived = self._clock()
        ticket = Ticket(tenant.name, tenant.weight, adapter, prompt_tokens, priority, arrived, answers)
        return Place(self, tenant, ticket)

    def arrive(self, tenant: Tenant) -> None:
        """Begin a visit. Raises as `visit` says."""
        if self._draining:
            raise Draining("this server is out of service and takes no new requests: call another one")
        self._check(tenant)
        self._visitors[tenant.name] += 1
        self._empty.clear()

    def depart(self, tenant: Tenant) -> None:
        """End a visit."""
        self._visitors[tenant.name] -= 1
        if not self._visitors[tenant.name]:
            del self._visitors[tenant.name]
        if not self._visitors:
            self._empty.set()

    async def enter(self, tenant: Tenant, ticket: Ticket) -> float:
        """Wait for a place; how long that took, in milliseconds."""
        await self._wait(ticket)
        self._pay(tenant, ticket.prompt_tokens)
        return (self._clock() - ticket.arrived) * 1000

    def charge(self, tenant: Tenant, ticket: Ticket, tokens: int) -> None:
        """So many output tokens were made for a ticket that is in."""
        self._queue.charge(ticket, tokens)
        self._pay(tenant, tokens)

    def leave(self, ticket: Ticket) -> None:
        """Give a place back."""
        self._inside.discard(ticket)
        self._queue.leave(ticket)
        now = self._clock()
        if self._queue.waiting:
            # Only while there is a line do the gaps tell how fast it moves.
            gap = now - self._left_at
            self._seconds_per_place += _SMOOTHING * (gap - self._seconds_per_place)
        self._left_at = now
        self._admit()

    def close(self, *, for_good: bool = False) -> None:
        """Let nobody new in from now on; those who are here go on."""
        self._draining = True
        self._ends = self._ends or for_good

    def reopen(self) -> None:
        """Undo `close`; raise Refused if that was for good."""
        if self._ends:
            raise Refused("this server is ending and will not take requests again: start another one")
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    async def empty(self) -> None:
        """Wait until every request that was let in has ended."""
        await self._empty.wait()

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return self._queue.waiting

    @property
    def running(self) -> int:
        """Requests in the engine."""
        return self._queue.running

    async def _wait(self, ticket: Ticket) -> None:
        self._queue.offer(ticket)
        self._admit()
        if ticket in self._inside:
            return
        turn = self._turns[ticket] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except asyncio.CancelledError:
            if ticket in self._inside:
                self.leave(ticket)  # Let in and cancelled in the same moment.
            else:
                self._queue.withdraw(ticket)
                self._admit()
            raise
        finally:
            del self._turns[ticket]

    def _admit(self) -> None:
        for ticket in self._queue.admit(self._clock()):
            self._inside.add(ticket)
            if (turn := self._turns.get(ticket)) is not None and not turn.done():
                turn.set_result(None)

    def _account(self, tenant: Tenant) -> _Account:
        account = self._accounts.get(tenant.name)
        if account is None or account.limits != tenant.limits:
            account = self._accounts[tenant.name] = _Account.open(tenant.limits, self._clock())
        return account

    def _check(self, tenant: Tenant) -> None:
        account = self._account(tenant)
        now, limits = self._clock(), account.limits
        if limits.concurrent is not None and self._visitors[tenant.name] >= limits.concurrent:
            raise _over(tenant, f"{limits.concurrent} requests at once", self._seconds_per_place)
        if account.tokens is not None and (wait := account.tokens.wait_seconds(1, now)):
            raise _over(tenant, f"{limits.tokens_per_minute:g} tokens a minute", wait)
        if account.requests is not None:
            if wait := account.requests.wait_seconds(1, now):
                raise _over(tenant, f"{limits.requests_per_second:g} requests a second", wait)
            account.requests = account.requests.take(1, now)

    def _check_line(self, tenant: Tenant, seconds_left: float | None) -> None:
        ahead = self._queue.waiting_of(tenant.name)
        share = self._queue.share_of(tenant.name, tenant.weight)
        wait = (ahead + 1) * self._seconds_per_place / share if self._queue.waiting else 0.0
        if ahead and ahead >= tenant.limits.queued:
            raise _over(tenant, f"{tenant.limits.queued} requests in line", wait)
        if self._queue.waiting >= QUEUED:
            raise Exhausted(f"{QUEUED} requests are in line, and more do not fit", retry_seconds=wait)
        if seconds_left is not None and seconds_left <= 0:
            raise DeadlineExceeded("the deadline passed before the request could stand in line: allow more")
        if seconds_left is not None and wait > seconds_left:
            raise Exhausted(
                f"the line takes about {wait:.1f} s, and the deadline is in {seconds_left:.1f} s: allow more "
                "time or come back later",
                retry_seconds=wait,
            )

    def _pay(self, tenant: Tenant, tokens: int) -> None:
        account = self._account(tenant)
        if account.tokens is not None:
            account.tokens = account.tokens.take(tokens, self._clock())


class Place:
    """A request's place in the engine, to be entered once; see `Admission.place`.

    queue_ms: how long it stood in line for it.
    """

    queue_ms = 0.0

    def __init__(self, admission: Admission, tenant: Tenant, ticket: Ticket) -> None:
        self._admission = admission
        self._tenant = tenant
        self._ticket = ticket

    async def __aenter__(self) -> Place:
        self.queue_ms = await self._admission.enter(self._tenant, self._ticket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.leave(self._ticket)

    def charge(self, tokens: int) -> None:
        """Pay for so many output tokens, as soon as they are made."""
        self._admission.charge(self._tenant, self._ticket, tokens)


class Visit:
    """A request from its arrival to its end; see `Admission.visit`.

    A class, like `Place` and `pool.Lease`, and no generator: every request comes by, and this takes less.
    """

    def __init__(self, admission: Admission, tenant: Tenant) -> None:
        self._admission = admission
        self._tenant = tenant

    def __enter__(self) -> None:
        self._admission.arrive(self._tenant)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._admission.depart(self._tenant)


def _over(tenant: Tenant, limit: str, retry_seconds: float) -> Exhausted:
    who = f"tenant {tenant.name} is" if tenant.name else "you are"
    return Exhausted(
        f"{who} at the limit of {limit}: come back in {max(retry_seconds, 0.01):.2g} s",
        retry_seconds=max(retry_seconds, 0.01),
        details={"tenant": tenant.name, "limit": limit},
    )
