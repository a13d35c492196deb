"""Compiles one structure and follows it, for any number of answers; runs in a process of its own."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import numpy as np
import xgrammar

from hotshoe.serve.structures import messages
from hotshoe.serve.structures.limits import MESSAGE_BYTES
from hotshoe.serve.structures.messages import Accept, Close, Compile, Open


def tokenizer_info(serialized: str) -> Any:
    """The base's vocabulary, as the engine's process told it."""
    return xgrammar.TokenizerInfo.deserialize_json(serialized)


def serve(channel: socket.socket, info: Any) -> None:
    """Answer what comes over the channel until it is closed.

    channel: of whole messages (SOCK_SEQPACKET). What the structure itself makes go wrong is an answer
    too, or this process's end.
    """
    own = os.pidfd_open(os.getpid())
    socket.send_fds(channel, [messages.HERE], [own])
    os.close(own)
    compiled: Any = None
    matchers: dict[int, Any] = {}
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
        if not data:
            return
        match messages.read(data):
            case Compile(kind):
                try:
                    compiled = _compiled(info, kind, _text(descriptors[0]))
                    _ensure_beginning(compiled, info.vocab_size)
                except Exception as error:
                    channel.send(messages.refused(str(error)))
                else:
                    channel.send(messages.COMPILED)
            case Open(number, stops):
                matchers[number] = xgrammar.GrammarMatcher(
                    compiled, override_stop_tokens=list(stops) or None, max_rollback_tokens=0
                )
                channel.send(messages.mask(number, 0.0, _next(matchers[number], info.vocab_size)))
            case Accept(number, tokens):
                began, matcher = time.process_time(), matchers[number]
                # One that must not end goes on with anything after the structure's end, as with vLLM's own.
                if all(matcher.is_terminated() or matcher.accept_token(token) for token in tokens):
                    bits = _next(matcher, info.vocab_size)
                    channel.send(messages.mask(number, time.process_time() - began, bits))
                else:
                    channel.send(messages.rejected(number))
            case Close(number):
                matchers.pop(number, None)


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
