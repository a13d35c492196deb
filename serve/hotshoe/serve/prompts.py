"""Prompts to token ids, and whether they fit the context."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from typing import TypeVar

from hotshoe.adapter.errors import InvalidRequest, PromptTooLong
from hotshoe.serve.engine import Engine
from hotshoe.serve.tenants import Tenant
from hotshoe.wire.values import Chat, Prompt, Sampling, Text, Tokens

Argument = TypeVar("Argument")

ENCODE_IN_THREAD_CHARACTERS = 4_096  # About a millisecond of tokenizing, which the event loop can spare.


TURN_CHARACTERS = 64
"""What the template's work for a turn takes as long as."""


class Prompts:
    """Encodes with an engine's tokenizer and fits into its context."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """The prompt's token ids; raise InvalidRequest, or PromptTooLong if no answer fits behind them."""
        match prompt:
            case Chat(messages):
                size = sum(len(message.content) for message in messages)
                self._check_length(size)
                size += len(messages) * TURN_CHARACTERS
                ids = await _maybe_in_thread(size, self._engine.encode_chat, prompt)
            case Text(text):
                self._check_length(len(text))
                ids = await _maybe_in_thread(len(text), self._engine.encode_text, text)
            case Tokens(ids):
                vocabulary = self._engine.facts.vocabulary
                if (wrong := max(ids)) >= vocabulary or (wrong := min(ids)) < 0:
                    raise InvalidRequest(f"token id {wrong} is not in the base's vocabulary of {vocabulary}")
        if len(ids) >= (context := self._engine.facts.context_tokens):
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens, and the context holds {context} with the "
                "answer: shorten it"
            )
        return ids

    def _check_length(self, characters: int) -> None:
        """Raise PromptTooLong for what cannot fit, however it is cut; to find out how may take long."""
        facts = self._engine.facts
        if facts.longest_token and characters > facts.longest_token * facts.context_tokens:
            raise PromptTooLong(
                f"the prompt has {characters} characters, and the context holds {facts.context_tokens} "
                f"tokens of {facts.longest_token} characters at most, with the answer: shorten it"
            )

    def fitted(self, sampling: Sampling, prompt_tokens: int, tenant: Tenant) -> Sampling:
        """With max_tokens set: what was asked for, or the most that tenant and context allow."""
        wanted = tenant.max_tokens(sampling.max_tokens)
        room = self._engine.facts.context_tokens - prompt_tokens
        if (sampling.min_tokens or 0) > room:
            raise InvalidRequest(
                f"min_tokens {sampling.min_tokens} is over the {room} tokens that the context has left"
            )
        most = min(wanted or room, room)
        return sampling if sampling.max_tokens == most else dataclasses.replace(sampling, max_tokens=most)


async def _maybe_in_thread(
    size: int, encode: Callable[[Argument], tuple[int, ...]], prompt: Argument
) -> tuple[int, ...]:
    if size <= ENCODE_IN_THREAD_CHARACTERS:
        return encode(prompt)
    return await asyncio.to_thread(encode, prompt)
