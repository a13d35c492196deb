"""Which version answers a reference: from memory, kept true by watching the registry.

A moved alias takes effect only after its new version is loaded beside the old one. If that fails, the
old one goes on answering.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from hotshoe.adapter.errors import HotshoeError, NotFound, Refused
from hotshoe.adapter.reference import DEFAULT_ALIAS, AdapterName, AdapterRef, Alias
from hotshoe.adapter.version import Version
from hotshoe.registry import Registry, Target, targets_text
from hotshoe.registry.aliases import choose
from hotshoe.serve.journal import Journal
from hotshoe.serve.pool import AdapterPool

log = logging.getLogger(__name__)

REMEMBERED = 65_536
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
MISSED_SECONDS = 1.0
"""How long a name that is not there is not looked for again: on the Hub each look is one of few requests."""

WATCHERS = 2

_DEFAULT = Alias(DEFAULT_ALIAS)

Targets = tuple[Target, ...]
Answer = TypeVar("Answer")
Arguments = ParamSpec("Arguments")


class Catalog:
    """Resolves references for one server.

    poll_seconds: how often the registry is asked what moved. All methods belong to one event loop;
    the registry is only ever called in threads.
    """

    def __init__(
        self,
        registry: Registry,
        pool: AdapterPool,
        *,
        poll_seconds: float = 0.25,
        journal: Journal | None = None,
    ) -> None:
        self._journal = journal or Journal()
        self._registry = registry
        self._pool = pool
        self._poll_seconds = poll_seconds
        self._known: OrderedDict[AdapterRef, Targets] = OrderedDict()
        self._asking: dict[AdapterRef, asyncio.Task[Targets]] = {}
        self._missed: OrderedDict[AdapterRef, tuple[float, NotFound]] = OrderedDict()
        self._watched: set[AdapterName] = set()
        self._following: dict[AdapterRef, asyncio.Task[None]] = {}
        self._doubtful: set[AdapterRef] = set()
        self._draining: set[Version] = set()
        self._stuck: dict[AdapterRef, HotshoeError] = {}
        self._heard_at = time.monotonic()
        # Of its own: callers may ask a slow registry for so many names that nobody else gets a thread.
        self._threads = ThreadPoolExecutor(WATCHERS, thread_name_prefix="watch registry")

    async def resolve(self, ref: AdapterRef, *, session: str | None = None) -> Version:
        """The version that answers `ref` now; the alias `prod` where it has no selector.

        session: keeps a caller on one side of an alias that splits. Raises AdapterNotFound,
        VersionNotFound, AliasNotFound or RegistryUnavailable.
        """
        ref = _complete(ref)
        targets = self._known.get(ref)
        if targets is None:
            targets = await self._ask(ref)
        else:
            self._known.move_to_end(ref)
        return choose(targets, session).version

    async def versions(self, ref: AdapterRef) -> tuple[Version, ...]:
        """All versions that answer `ref` now: several where an alias splits. Raises as `resolve`."""
        ref = _complete(ref)
        targets = self._known.get(ref) or await self._ask(ref)
        return tuple(_versions(targets))

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow the registry until the block ends."""
        # Of no adapter yet: on the Hub, the cursor of all of them would cost a request for each.
        _, cursor = await self._in_thread(self._registry.changes, None, frozenset())
        tasks = [asyncio.create_task(self._watch(cursor), name="watch registry")]
        try:
            yield
        finally:
            await _cancel([*tasks, *self._following.values(), *self._asking.values()])
            self._threads.shutdown(wait=False)

    def stuck(self) -> dict[AdapterRef, HotshoeError]:
        """Aliases that moved to a version which cannot be loaded, so that the old one still answers."""
        return dict(self._stuck)

    def age_seconds(self) -> float:
        """How long ago the registry last said what moved."""
        return time.monotonic() - self._heard_at

    async def _ask(self, ref: AdapterRef) -> Targets:
        """Ask the registry, once for however many callers; the answer is remembered unless `ref` moved."""
        task = self._asking.get(ref)
        if task is None and (missed := self._missed.get(ref)) and time.monotonic() < missed[0]:
            raise missed[1].with_traceback(None)
        if task is None:
            task = asyncio.create_task(self._fetch(ref), name=f"resolve {ref}")
            task.add_done_callback(_seen)
            self._asking[ref] = task
            self._watched.add(ref.adapter)
        return await asyncio.shield(task)

    async def _fetch(self, ref: AdapterRef) -> Targets:
        try:
            answer = await asyncio.to_thread(self._registry.answer, ref)
            if self._asking.get(ref) is asyncio.current_task():
                self._remember(ref, answer.targets)
                if answer.recalled and isinstance(ref.selector, Alias):
                    self._doubtful.add(ref)
            return answer.targets
        except NotFound as error:
            self._miss(ref, error)
            raise
        finally:
            if self._asking.get(ref) is asyncio.current_task():
                del self._asking[ref]

    def _miss(self, ref: AdapterRef, error: NotFound) -> None:
        """Remember for a moment that this is not there, and watch its adapter no more if nothing of it is:
        it is watched from before it is asked for, and the more are, the rarer each is looked at."""
        self._missed[ref] = (time.monotonic() + MISSED_SECONDS, error)
        if len(self._missed) > REMEMBERED:
            self._missed.popitem(last=False)
        others = (each for each in (*self._known, *self._asking) if each != ref)
        if not any(each.adapter == ref.adapter for each in others):
            self._watched.discard(ref.adapter)

    def _remember(self, ref: AdapterRef, targets: Targets) -> None:
        self._known[ref] = targets
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
            self._watched = {each.adapter for each in (*self._known, *self._asking)}

    async def _watch(self, cursor: str) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            try:
                cursor = await self._look(cursor)
                self._heard_at = time.monotonic()
                await self._retire_drained()
            except HotshoeError as error:
                log.warning("the registry cannot be watched now, aliases stay as they are: %s", error)
            except Exception:
                log.exception("watching the registry failed, aliases stay as they are; trying again")

    async def _look(self, cursor: str) -> str:
        watched = frozenset(self._watched)
        changes, cursor = await self._in_thread(self._registry.changes, cursor, watched)
        moved = {AdapterRef(each.adapter, Alias(each.alias)) for each in changes if each.alias}
        # Asked for while the registry was looking elsewhere: a move in between was told to nobody.
        if missed := self._watched - watched:
            held = {*self._known, *self._asking}
            moved |= {ref for ref in held if ref.adapter in missed and isinstance(ref.selector, Alias)}
        # Answered from before an outage: a move since then may have been told when nobody knew the alias.
        moved |= self._doubtful
        self._doubtful.clear()
        for ref in moved:
            self._on_moved(ref)
        return cursor

    def _on_moved(self, ref: AdapterRef) -> None:
        # An answer under way may be from before the move: it is given, but not remembered.
        self._asking.pop(ref, None)
        self._missed.pop(ref, None)
        if (under_way := self._following.pop(ref, None)) is not None:
            under_way.cancel()
        if ref in self._known:
            task = asyncio.create_task(self._follow(ref), name=f"follow {ref}")
            self._following[ref] = task
            task.add_done_callback(lambda done: self._followed(ref, done))

    def _followed(self, ref: AdapterRef, task: asyncio.Task[None]) -> None:
        if self._following.get(ref) is task:
            del self._following[ref]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("following %s failed", ref, exc_info=error)

    async def _follow(self, ref: AdapterRef) -> None:
        """Warm what `ref` points to now and switch over, trying again while only others are in the way."""
        pause = FIRST_RETRY_SECONDS
        while True:
            try:
                await self._switch(ref)
                self._stuck.pop(ref, None)
                return
            except NotFound:
                self._forget(ref)  # Unset: whoever asks next is told so.
                return
            except HotshoeError as error:
                self._stuck[ref] = error
                self._journal.stuck(ref, error)
                log.warning("%s stays as it is, its new version cannot be loaded: %s", ref, error)
                if isinstance(error, Refused):
                    return  # It lies in the version itself; the next move is the next try.
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_RETRY_SECONDS)

    async def _switch(self, ref: AdapterRef) -> None:
        # A move is told once: what was known before it, believed again in an outage, would lose it.
        new = await self._in_thread(self._registry.targets, ref, fresh=True)
        if self._known.get(ref) in (None, new):
            return
        for target in new:
            await self._pool.warm(target.version)
        if (old := self._known.get(ref)) is not None:
            self._known[ref] = new
            self._draining.update(_versions(old))
            now, before = targets_text(new), targets_text(old)
            self._journal.moved(ref, now=now, before=before)
            log.info("%s now answers with %s, was %s", ref, now, before)

    async def _in_thread(
        self, ask: Callable[Arguments, Answer], *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(ask, *arguments, **named))

    def _forget(self, ref: AdapterRef) -> None:
        self._stuck.pop(ref, None)
        if (old := self._known.pop(ref, None)) is not None:
            self._draining.update(_versions(old))

    async def _retire_drained(self) -> None:
        """Unload what no alias wants any more, as soon as the last request on it has ended."""
        if self._draining:
            for targets in self._known.values():
                self._draining.difference_update(_versions(targets))
        for version in [*self._draining]:
            if await self._pool.retire(version):
                self._draining.discard(version)


def _complete(ref: AdapterRef) -> AdapterRef:
    return ref if ref.selector else AdapterRef(ref.adapter, _DEFAULT)


def _versions(targets: Targets) -> Iterable[Version]:
    return (target.version for target in targets)


async def _cancel(tasks: list[asyncio.Task[None] | asyncio.Task[Targets]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _seen(task: asyncio.Task[Targets]) -> None:
    """Take note of an error that every caller gave up waiting for."""
    if not task.cancelled():
        task.exception()
