"""What the server needs of an engine. `vllm_engine` is the real one, `echo_engine` a product for tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hotshoe.adapter.manifest import Base
from hotshoe.wire.values import Chat, FinishReason, Sampling, TokenLogprob


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine says of itself once it is up.

    base_config: the base's config.json, for the shapes that adapters must have; empty where there is none.
    context_tokens: prompt plus output at most. slots: adapters active in one step at most.
    max_rank: the largest LoRA rank a slot holds. number_bytes: what one weight takes of its memory.
    template_sha256: of the chat template's text; empty where nothing is known of it. longest_token: its
    characters; 0 where that is not known.
    """

    base: Base
    context_tokens: int
    vocabulary: int
    slots: int
    max_rank: int
    base_config: Mapping[str, Any] = field(default_factory=dict)
    number_bytes: int = 4
    template_sha256: str = ""
    longest_token: int = 0


@dataclass(frozen=True, slots=True)
class EngineAdapter:
    """A version under the name it has inside the engine.

    name: differs for every content (`org/name@digest`). id: positive, never used twice by a process,
    not even after a failed load. folder: immutable, holds adapter_config.json and its weights, and
    must stay in place for as long as the adapter is added.
    """

    name: str
    id: int
    folder: Path


@dataclass(frozen=True, slots=True)
class EngineChunk:
    """A piece of the answer number `index`. finish_reason is set on an answer's last one only.

    token_ids: new output tokens. prompt_tokens and cached_tokens: of the prompt, counted in tokens.
    logprobs: one a token, if they were asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    prompt_tokens: int
    cached_tokens: int
    index: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


class Engine(Protocol):
    """One base model, loaded once, with adapters beside it.

    After the engine's death every call raises EngineUnavailable.
    """

    @property
    def facts(self) -> EngineFacts: ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokenize plain text, with the tokenizer's own special tokens."""
        ...

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        """Render a chat through the base's template, ready to answer; raise InvalidRequest if it can't."""
        ...

    async def add(self, adapter: EngineAdapter) -> None:
        """Load an adapter. If that fails nothing of it is left behind.

        Raises AdapterLoadFailed for what is wrong with it, EngineUnavailable where the engine is not there
        or loads none now.
        """
        ...

    async def remove(self, adapter: EngineAdapter) -> None:
        """Unload an adapter that no request uses; unknown ones are no error."""
        ...

    def generate(
        self,
        request_id: str,
        prompt: tuple[int, ...],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        *,
        tenant: str = "",
    ) -> AsyncGenerator[EngineChunk, None]:
        """Stream `sampling.n` answers. Closing the generator (aclose) ends the request inside the engine.

        sampling.max_tokens is set and fits the context. The adapter was added before. tenant: who asks, so
        that what they ask for costs them and nobody else.
        Raises InvalidRequest for what the engine refuses, EngineUnavailable when it died.
        """
        ...

    async def check(self) -> None:
        """Raise EngineUnavailable unless the engine is alive."""
        ...

    async def close(self) -> None:
        """Stop the engine and every process of it."""
        ...
