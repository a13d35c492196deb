"""The use case: may they, who answers, does the prompt fit; then a place, the adapter, and the stream."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from hotshoe.adapter.errors import EngineUnavailable, InvalidRequest, PromptTooLong
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.serve.admission import Admission, Place
from hotshoe.serve.call import Call, Observer, Origin
from hotshoe.serve.engine import Engine, EngineAdapter, EngineChunk
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.tenants import ANYONE, Tenant
from hotshoe.wire.values import (
    Chat,
    Completion,
    Delta,
    Event,
    Finished,
    GenerateRequest,
    Prompt,
    Resolved,
    Sampling,
    Text,
    Tokens,
)

Argument = TypeVar("Argument")

ENCODE_IN_THREAD_CHARACTERS = 4_096  # About a millisecond of tokenizing, which the event loop can spare.


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
        self._catalog = catalog
        self._pool = pool
        self._admission = admission
        self._observers = observers

    async def stream(
        self, request: GenerateRequest, *, request_id: str, caller: Caller = SERVER
    ) -> AsyncGenerator[Event, None]:
        """Stream an answer: one Resolved, any number of Delta, one Finished.

        Closing or cancelling it ends the work in the engine and gives adapter and place back. The version
        is chosen once, at the start; a promotion during the answer does not touch it.
        """
        with Call(request_id, caller.origin, self._observers).running() as call:
            ref = caller.tenant.choose(request.adapter)
            with self._admission.visit(caller.tenant):
                prompt = await self._encode(request.prompt)
                call.prompt_tokens = len(prompt)
                sampling = self._fitted(request.sampling, len(prompt), caller.tenant)
                version = await self._find(ref, request.session)
                async with self._held(call, version, request.priority, caller) as (place, adapter):
                    chunks = self._engine.generate(call.id, prompt, sampling, adapter)
                    async with _begun(chunks) as first:
                        yield _resolved(self._engine.facts.base, version)
                        async with contextlib.aclosing(_answer(call, first, chunks, place)) as events:
                            async for event in events:
                                yield event

    async def complete(
        self, request: GenerateRequest, *, request_id: str, caller: Caller = SERVER
    ) -> Completion:
        """The whole answer at once."""
        text: list[str] = []
        token_ids: list[int] = []
        resolved: Resolved | None = None
        stream = self.stream(request, request_id=request_id, caller=caller)
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                match event:
                    case Resolved():
                        resolved = event
                    case Delta(piece, ids):
                        text.append(piece)
                        token_ids.extend(ids)
                    case Finished(reason, usage) if resolved:
                        return Completion(resolved, "".join(text), tuple(token_ids), reason, usage)
        raise EngineUnavailable("the engine ended the answer before its end: try again")

    async def _find(self, ref: AdapterRef | None, session: str) -> Version | None:
        """The version that answers, with its files on this machine; None is the base."""
        if ref is None:
            return None
        version = await self._catalog.resolve(ref, session=session or None)
        # Before the line: who waits for a slow registry takes no place in the engine from anybody.
        await self._pool.fetch(version)
        return version

    @contextlib.asynccontextmanager
    async def _held(
        self, call: Call, version: Version | None, priority: int, caller: Caller
    ) -> AsyncIterator[tuple[Place, EngineAdapter | None]]:
        """A place in the engine and, there, the adapter, until the block ends."""
        seconds_left = None if caller.seconds_left is None else caller.seconds_left - call.seconds
        async with contextlib.AsyncExitStack() as stack:
            place = await stack.enter_async_context(
                self._admission.place(
                    caller.tenant,
                    adapter=version.engine_name if version else "",
                    prompt_tokens=call.prompt_tokens,
                    priority=priority,
                    seconds_left=seconds_left,
                )
            )
            call.queue_ms = place.queue_ms
            lease = await stack.enter_async_context(self._pool.lease(version)) if version else None
            call.on_resolved(
                _resolved(self._engine.facts.base, version), load_ms=lease.load_ms if lease else 0.0
            )
            yield place, lease.adapter if lease else None

    async def _encode(self, prompt: Prompt) -> tuple[int, ...]:
        match prompt:
            case Chat(messages):
                size = sum(len(message.content) for message in messages)
                ids = await _maybe_in_thread(size, self._engine.encode_chat, prompt)
            case Text(text):
                ids = await _maybe_in_thread(len(text), self._engine.encode_text, text)
            case Tokens(ids):
                vocabulary = self._engine.facts.vocabulary
                if (largest := max(ids)) >= vocabulary or min(ids) < 0:
                    raise InvalidRequest(
                        f"token id {largest} is not in the base's vocabulary of {vocabulary}"
                    )
        if len(ids) >= (context := self._engine.facts.context_tokens):
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens, and the context holds {context} with the "
                "answer: shorten it"
            )
        return ids

    def _fitted(self, sampling: Sampling, prompt_tokens: int, tenant: Tenant) -> Sampling:
        """With max_tokens set: what was asked for, or the most that tenant and context allow."""
        wanted = tenant.max_tokens(sampling.max_tokens)
        room = self._engine.facts.context_tokens - prompt_tokens
        if (sampling.min_tokens or 0) > room:
            raise InvalidRequest(
                f"min_tokens {sampling.min_tokens} is over the {room} tokens that the context has left"
            )
        return dataclasses.replace(sampling, max_tokens=min(wanted or room, room))


@contextlib.asynccontextmanager
async def _begun(
    chunks: AsyncGenerator[EngineChunk, None],
) -> AsyncIterator[asyncio.Future[EngineChunk | None]]:
    """Have the engine begin at once, while the caller is told who answers; yield its first chunk to come.

    The work ends with the block.
    """
    first = asyncio.ensure_future(anext(chunks, None))
    async with contextlib.aclosing(chunks):
        try:
            yield first
        finally:
            first.cancel()
            await asyncio.wait([first])
            if not first.cancelled():
                first.exception()  # Seen, even if nobody came to ask for the chunk.


async def _answer(
    call: Call,
    first: asyncio.Future[EngineChunk | None],
    chunks: AsyncGenerator[EngineChunk, None],
    place: Place,
) -> AsyncGenerator[Delta | Finished, None]:
    chunk = await first
    while chunk is not None:
        place.charge(len(chunk.token_ids))
        call.on_tokens(len(chunk.token_ids), cached_tokens=chunk.cached_tokens)
        if chunk.text or chunk.token_ids:
            yield Delta(chunk.text, chunk.token_ids)
        if chunk.finish_reason is not None:
            call.finish_reason = chunk.finish_reason
            yield Finished(chunk.finish_reason, call.usage)
            return
        chunk = await anext(chunks, None)
    raise EngineUnavailable("the engine ended the answer before its end: try again")


async def _maybe_in_thread(
    size: int, encode: Callable[[Argument], tuple[int, ...]], prompt: Argument
) -> tuple[int, ...]:
    if size <= ENCODE_IN_THREAD_CHARACTERS:
        return encode(prompt)
    return await asyncio.to_thread(encode, prompt)


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
