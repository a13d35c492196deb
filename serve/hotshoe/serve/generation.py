"""The use case: who answers, may the prompt be, hold the adapter, stream."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

from hotshoe.adapter.errors import EngineUnavailable, InvalidRequest, PromptTooLong
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.version import Version
from hotshoe.serve.catalog import Catalog
from hotshoe.serve.engine import Engine, EngineAdapter
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
    Usage,
)

Argument = TypeVar("Argument")

ENCODE_IN_THREAD_CHARACTERS = 4_096  # About a millisecond of tokenizing, which the event loop can spare.


class Generation:
    """Answers requests with one engine. Safe for any number of concurrent callers on one event loop."""

    def __init__(self, engine: Engine, catalog: Catalog, pool: AdapterPool) -> None:
        self._engine = engine
        self._catalog = catalog
        self._pool = pool

    async def stream(self, request: GenerateRequest, *, request_id: str) -> AsyncGenerator[Event, None]:
        """Stream an answer: one Resolved, any number of Delta, one Finished.

        Closing or cancelling it ends the work in the engine and gives the adapter back. The version is
        chosen once, at the start; a promotion during the answer does not touch it.
        """
        started = time.monotonic()
        prompt = await self._encode(request.prompt)
        sampling = self._fitted(request.sampling, len(prompt))
        version = await self._catalog.resolve(request.adapter) if request.adapter else None
        async with self._leased(version) as lease:
            yield _resolved(self._engine.facts.base, version)
            adapter = lease.adapter if lease else None
            usage = Usage(prompt_tokens=len(prompt), load_ms=lease.load_ms if lease else 0.0)
            async with contextlib.aclosing(
                self._answer(request_id, prompt, sampling, adapter, usage, started)
            ) as events:
                async for event in events:
                    yield event

    async def complete(self, request: GenerateRequest, *, request_id: str) -> Completion:
        """The whole answer at once."""
        text: list[str] = []
        token_ids: list[int] = []
        resolved: Resolved | None = None
        async with contextlib.aclosing(self.stream(request, request_id=request_id)) as events:
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

    async def _answer(
        self,
        request_id: str,
        prompt: tuple[int, ...],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        usage: Usage,
        started: float,
    ) -> AsyncGenerator[Delta | Finished, None]:
        output_tokens, first_token_ms = 0, 0.0
        async with contextlib.aclosing(
            self._engine.generate(request_id, prompt, sampling, adapter)
        ) as chunks:
            async for chunk in chunks:
                first_token_ms = first_token_ms or (time.monotonic() - started) * 1000
                output_tokens += len(chunk.token_ids)
                if chunk.text or chunk.token_ids:
                    yield Delta(chunk.text, chunk.token_ids)
                if chunk.finish_reason is not None:
                    yield Finished(
                        chunk.finish_reason,
                        dataclasses.replace(
                            usage,
                            cached_tokens=chunk.cached_tokens,
                            output_tokens=output_tokens,
                            first_token_ms=first_token_ms,
                        ),
                    )
                    return
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
