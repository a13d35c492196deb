"""Compiles one structure and follows it, for any number of answers; runs in a process of its own."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import numpy as np
import xgrammar

from hotshoe.serve.structures import messages
from hotshoe.serve.structures.limits import MESSAGE_BYTES, PROMPT_SECONDS
from hotshoe.serve.structures.messages import Accept, Close, Compile, Open, together

_HEAD_BYTES = 64
"""More than a mask's message has beside its bits."""


def tokenizer_info(serialized: str) -> Any:
    """The base's vocabulary, as the engine's process told it."""
    return xgrammar.TokenizerInfo.deserialize_json(serialized)


def serve(channel: socket.socket, info: Any) -> None:
    """Answer what comes over the channel until it is closed.

    channel: of whole messages (SOCK_SEQPACKET). What the structure itself makes go wrong is an answer
    too, or this process's end.
    """
    own = os.pidfd_open(os.getpid())
    socket.send_fds(channel, [together([messages.HERE])], [own])
    os.close(own)
    first, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
    if not first:
        return
    try:
        compiled = _compiled(info, Compile.read(first).kind, _text(descriptors[0]))
        _ensure_beginning(compiled, info.vocab_size)
    except Exception as error:
        channel.send(together([messages.refused(str(error))]))
    else:
        channel.send(together([messages.COMPILED]))
        _follow(channel, compiled, info.vocab_size)


def _follow(channel: socket.socket, compiled: Any, vocabulary: int) -> None:
    following = _Following(compiled, vocabulary)
    buffer = memoryview(bytearray(MESSAGE_BYTES))
    at_once = max(1, MESSAGE_BYTES // (vocabulary // 8 + _HEAD_BYTES))
    while size := channel.recv_into(buffer):
        said: list[bytes] = []
        began = time.process_time()
        for message in messages.apart(buffer[:size]):
            said.extend(following.answers(messages.read(message)))
            # What took long is told of before more is done: how long it is silent tells on a structure.
            if len(said) == at_once or (said and time.process_time() - began > PROMPT_SECONDS):
                channel.send(together(said))
                said.clear()
                began = time.process_time()
        if said:
            channel.send(together(said))


class _Following:
    """The answers that go through a structure, by number."""

    def __init__(self, compiled: Any, vocabulary: int) -> None:
        self._compiled = compiled
        self._vocabulary = vocabulary
        self._matchers: dict[int, Any] = {}

    def answers(self, message: Open | Accept | Close) -> list[bytes]:
        """What there is to say to it: one message, or none."""
        match message:
            case Open(number, stops):
                matcher = self._matchers[number] = xgrammar.GrammarMatcher(
                    self._compiled, override_stop_tokens=list(stops) or None, max_rollback_tokens=0
                )
                return [messages.mask(number, 0.0, _next(matcher, self._vocabulary))]
            case Accept(number, tokens):
                return [self._accepted(number, tokens)]
            case Close(number):
                self._matchers.pop(number, None)
        return []

    def _accepted(self, number: int, tokens: tuple[int, ...]) -> bytes:
        began, matcher = time.process_time(), self._matchers[number]
        # One that must not end goes on with anything after the structure's end, as with vLLM's own.
        if all(matcher.is_terminated() or matcher.accept_token(token) for token in tokens):
            bits = _next(matcher, self._vocabulary)
            return messages.mask(number, time.process_time() - began, bits)
        return messages.rejected(number)


def _compiled(info: Any, kind: str, text: str) -> Any:
    # One thread: the more the process takes at once, the more everybody else feels it.
    compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
    match kind:
        case "json":
            # A model that may write blanks for ever will: JSON comes without any.
            return compiler.compile_json_schema(text, any_whitespace=False, separators=(",", ":"))
        case "regex":
            return compiler.compile_regex(text)
        case _:
            return compiler.compile_grammar(text)


def _ensure_beginning(compiled: Any, vocabulary: int) -> None:
    """Raise ValueError for a structure that never ends, such as a rule that is itself: no token begins it."""
    first = _next(xgrammar.GrammarMatcher(compiled, max_rollback_tokens=0), vocabulary)
    if first is not None and not any(first):
        raise ValueError("nothing can be written that the structure allows: give it a way to end")


def _text(descriptor: int) -> str:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read().decode(errors="replace")


def _next(matcher: Any, vocabulary: int) -> bytes | None:
    """Which tokens may come next, a bit each; None at the structure's end."""
    if matcher.is_terminated():
        return None
    mask = np.full((1, (vocabulary + 31) // 32), -1, np.int32)
    matcher.fill_next_token_bitmask(mask)
    return mask.tobytes()
