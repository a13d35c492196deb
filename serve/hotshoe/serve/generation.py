"""The use case: may they, who answers, does the prompt fit; then a place, the adapter, and the stream."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from hotshoe.adapter.errors import EngineUnavailable, HotshoeError
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.serve.admission import Admission, Place
from hotshoe.serve.call import Call, Observer, Origin
from hotshoe.serve.engine import Engine, EngineChunk
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.prompts import Prompts
from hotshoe.serve.tenants import ANYONE, Tenant
from hotshoe.wire.values import (
    Answer,
    Completion,
    Delta,
    Event,
    Finished,
    FinishReason,
    GenerateRequest,
    Prompt,
    Resolved,
    TokenLogprob,
    Usage,
)

_UNENDED = "the engine ended the answer before its end"

_NO_LEASE: contextlib.nullcontext[None] = contextlib.nullcontext()


class Resolver(Protocol):
    """Chooses who answers."""

    async def resolve(self, ref: AdapterRef, *, session: str | None = None) -> Version:
        """The version that answers `ref` now; raise NotFound or RegistryUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and under which circumstances.

    seconds_left: until the caller's deadline when the request arrived; None is no deadline.
    """

    tenant: Tenant = ANYONE
    origin: Origin = field(default_factory=Origin)
    seconds_left: float | None = None


SERVER = Caller()
"""The server itself, or anybody on one that asks nobody."""


@dataclass(slots=True)
class _Draft:
    """A whole answer on its way."""

    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: FinishReason | None = None

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs)

    def answer(self, reason: FinishReason) -> Answer:
        return Answer("".join(self.text), tuple(self.token_ids), reason, tuple(self.logprobs))


class Generation:
    """Answers requests with one engine. Safe for any number of concurrent callers on one event loop."""

    def __init__(
        self,
        engine: Engine,
        catalog: Resolver,
        pool: AdapterPool,
        admission: Admission,
        *,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._engine = engine
        self._prompts = Prompts(engine)
        self._catalog = catalog
        self._pool = pool
        self._admission = admission
        self._observers = observers

    async def stream(
        self, request: GenerateRequest, *, request_id: str, caller: Caller = SERVER
    ) -> AsyncGenerator[tuple[Event, ...], None]:
        """Stream an answer: one Resolved, any number of Delta, one Finished for each of `sampling.n`.

        What is known at one moment comes together, at most one event of a kind: a message costs more than
        what is in it. Closing or cancelling it ends the work in the engine and gives adapter and place
        back. The version is chosen once, at the start; a promotion during the answer does not touch it.
        """
        with Call(request_id, caller.origin, self._observers) as call:
            call.prompt = request.prompt
            ref = caller.tenant.choose(request.adapter)
            with self._admission.visit(caller.tenant):
                prompt = await self._prompts.encode(request.prompt)
                call.prompt_tokens = len(prompt)
                sampling = self._prompts.fitted(request.sampling, len(prompt), caller.tenant)
                version = await self._find(ref, request.session)
                resolved = _resolved(self._engine.facts.base, version)
                async with self._place(call, version, request, caller) as place:
                    call.queue_ms = place.queue_ms
                    lease_of = self._pool.lease(version) if version else _NO_LEASE
                    async with _Naming(resolved), lease_of as lease:
                        call.on_resolved(resolved, load_ms=lease.load_ms if lease else 0.0)
                        adapter = lease.adapter if lease else None
                        chunks = self._engine.generate(
                            call.id, prompt, sampling, adapter, tenant=caller.tenant.name
                        )
                        async with contextlib.aclosing(chunks):
                            news: tuple[Event, ...] = (resolved,)
                            left = sampling.n
                            async for chunk in chunks:
                                left -= chunk.finish_reason is not None
                                place.charge(len(chunk.token_ids))
                                if news := (*news, *_told(call, chunk, last=not left)):
                                    yield news
                                if not left:
                                    return
                                news = ()
                            raise EngineUnavailable(_UNENDED, begun=True)

    async def complete(
        self, request: GenerateRequest, *, request_id: str, caller: Caller = SERVER
    ) -> Completion:
        """The whole answer at once."""
        resolved: Resolved | None = None
        drafts = [_Draft() for _ in range(request.sampling.n)]
        usage = Usage()
        stream = self.stream(request, request_id=request_id, caller=caller)
        async with contextlib.aclosing(stream) as pieces:
            async for events in pieces:
                for event in events:
                    match event:
                        case Resolved():
                            resolved = event
                        case Delta():
                            drafts[event.index].add(event)
                        case Finished(reason, usage, index):
                            drafts[index].reason = reason
        answers = tuple(draft.answer(draft.reason) for draft in drafts if draft.reason is not None)
        if resolved is None or len(answers) < len(drafts):
            raise EngineUnavailable(_UNENDED, begun=True)
        return Completion(resolved, answers, usage)

    async def count_tokens(self, prompt: Prompt, caller: Caller = SERVER) -> int:
        """The tokens of a prompt, chat template included. Raises as `stream` does for a wrong prompt."""
        with self._admission.visit(caller.tenant):
            return len(await self._prompts.encode(prompt))

    @property
    def context_tokens(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._engine.facts.context_tokens

    async def _find(self, ref: AdapterRef | None, session: str) -> Version | None:
        """The version that answers, with its files on this machine; None is the base."""
        if ref is None:
            return None
        version = await self._catalog.resolve(ref, session=session or None)
        # Before the line: who waits for a slow registry takes no place in the engine from anybody.
        await self._pool.fetch(version)
        return version

    def _place(self, call: Call, version: Version | None, request: GenerateRequest, caller: Caller) -> Place:
        return self._admission.place(
            caller.tenant,
            adapter=version.engine_name if version else "",
            prompt_tokens=call.prompt_tokens,
            answers=request.sampling.n,
            priority=request.priority,
            seconds_left=None if caller.seconds_left is None else caller.seconds_left - call.seconds,
        )


class _Naming:
    """An error of the block says who was to answer.

    It may come before any message, and of an alias that splits nobody would know which version it was.
    """

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._resolved.adapter and isinstance(error, HotshoeError):
            who = {"adapter": self._resolved.adapter, "version": self._resolved.version}
            error.details = {**error.details, **who}


def _told(call: Call, chunk: EngineChunk, *, last: bool) -> Iterator[Delta | Finished]:
    """What the caller is told of a chunk. last: no other follows, of any answer."""
    call.on_tokens(len(chunk.token_ids), cached_tokens=chunk.cached_tokens)
    if chunk.text or chunk.token_ids:
        yield Delta(chunk.text, chunk.token_ids, chunk.index, chunk.logprobs)
    if chunk.finish_reason is not None:
        if last:
            call.finish_reason = chunk.finish_reason
        yield Finished(chunk.finish_reason, call.usage, chunk.index)


def _resolved(base: Base, version: Version | None) -> Resolved:
    if version is None:
        return Resolved(base)
    return Resolved(
        base=base,
        adapter=str(version.adapter),
        version=version.tag,
        commit=version.commit,
        manifest_sha256=version.manifest_sha256,
    )
