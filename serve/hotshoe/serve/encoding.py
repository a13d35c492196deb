"""Texts and chats to token ids, in a way that other threads can go on meanwhile."""

from __future__ import annotations

import copy
from typing import Any

import jinja2

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.wire.values import Chat


class Encoder:
    """Encodes with a tokenizer of transformers; may be used by several threads at once.

    longest_token: characters of the longest one; 0 where that is not known.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend: Any = None
        if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
            # One of its own: what transformers sets on the other for a call would count for ours too.
            self._backend = copy.deepcopy(backend)
            self._backend.no_truncation()
            self._backend.no_padding()
        self.longest_token = int(getattr(tokenizer, "max_chars_per_token", 0))

    def text(self, text: str) -> tuple[int, ...]:
        """Plain text, with the tokenizer's own special tokens."""
        return self._encode(text, special=True)

    def chat(self, chat: Chat) -> tuple[int, ...]:
        """A chat through the base's template, ready to answer; raise InvalidRequest if it can't be."""
        turns = [{"role": message.role, "content": message.content} for message in chat.messages]
        try:
            rendered = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            return self._encode(rendered, special=False)
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            raise InvalidRequest(
                f"the base's chat template refuses this chat: {error}: send other turns or a plain prompt"
            ) from error

    def _encode(self, text: str, *, special: bool) -> tuple[int, ...]:
        if self._backend is None:
            return tuple(self._tokenizer.encode(text, add_special_tokens=special))
        # Not `encode`, nor what transformers does: those hold the interpreter, for seconds where a text is
        # long and has no blanks, and the server's event loop waits.
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=special)
        return tuple(encoding.ids)
