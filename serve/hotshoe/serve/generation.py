"""The use case: who answers, may the prompt be, hold the adapter, stream."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Protocol, TypeVar

from hotshoe.adapter.errors import EngineUnavailable, InvalidRequest, PromptTooLong
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.serve.call import Call, Observer, Origin
from hotshoe.serve.engine import Engine, EngineChunk
from hotshoe.serve.pool import AdapterPool, Lease
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


class Generation:
    """Answers requests with one engine. Safe for any number of concurrent callers on one event loop."""

    def __init__(
        self, engine: Engine, catalog: Resolver, pool: AdapterPool, *, observers: Sequence[Observer] = ()
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._pool = pool
        self._observers = observers

    async def stream(
        self, request: GenerateRequest, *, request_id: str, origin: Origin | None = None
    ) -> AsyncGenerator[Event, None]:
        """Stream an answer: one Resolved, any number of Delta, one Finished.

        Closing or cancelling it ends the work in the engine and gives the adapter back. The version is
        chosen once, at the start; a promotion during the answer does not touch it.
        """
        with Call(request_id, origin, self._observers).running() as call:
            prompt = await self._encode(request.prompt)
            call.prompt_tokens = len(prompt)
            sampling = self._fitted(request.sampling, len(prompt))
            version = await self._catalog.resolve(request.adapter) if request.adapter else None
            async with self._leased(version) as lease:
                resolved = _resolved(self._engine.facts.base, version)
                call.on_resolved(resolved, load_ms=lease.load_ms if lease else 0.0)
                yield resolved
                chunks = self._engine.generate(call.id, prompt, sampling, lease.adapter if lease else None)
                async with contextlib.aclosing(_answer(call, chunks)) as events:
                    async for event in events:
                        yield event

    async def complete(
        self, request: GenerateRequest, *, request_id: str, origin: Origin | None = None
    ) -> Completion:
        """The whole answer at once."""
        text: list[str] = []
        token_ids: list[int] = []
        resolved: Resolved | None = None
        stream = self.stream(request, request_id=request_id, origin=origin)
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

    def _fitted(self, sampling: Sampling, prompt_tokens: int) -> Sampling:
        room = self._engine.facts.context_tokens - prompt_tokens
        if (sampling.min_tokens or 0) > room:
            raise InvalidRequest(
                f"min_tokens {sampling.min_tokens} is over the {room} tokens that the context has left"
            )
        return dataclasses.replace(sampling, max_tokens=min(sampling.max_tokens or room, room))

    @contextlib.asynccontextmanager
    async def _leased(self, version: Version | None) -> AsyncIterator[Lease | None]:
        if version is None:
            yield None
            return
        async with self._pool.lease(version) as lease:
            yield lease


async def _answer(
    call: Call, chunks: AsyncGenerator[EngineChunk, None]
) -> AsyncGenerator[Delta | Finished, None]:
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            call.on_tokens(len(chunk.token_ids), cached_tokens=chunk.cached_tokens)
            if chunk.text or chunk.token_ids:
                yield Delta(chunk.text, chunk.token_ids)
            if chunk.finish_reason is not None:
                call.finish_reason = chunk.finish_reason
                yield Finished(chunk.finish_reason, call.usage)
                return
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
