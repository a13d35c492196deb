"""Tokens as transformers makes them, without holding up the event loop."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.serve.encoding import Encoder
from hotshoe.wire.values import Chat, Message

TEXTS = [
    "x",
    "Dear support, my invoice",
    "  two  blanks\n\ttabs ",
    "é ü 漢字 🙂",
    "a" * 300,
    "<|im_start|>user",
]
LONG = "a" * 1_000_000


@pytest.fixture(scope="module")
def tokenizer(tiny_base: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_base)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_and_chats_have_the_tokens_that_transformers_gives_them(tokenizer: Any, text: str) -> None:
    encoder = Encoder(tokenizer)
    assert encoder.text(text) == tuple(tokenizer.encode(text))
    turns = [{"role": "user", "content": text}]
    expected = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert encoder.chat(Chat((Message("user", text),))) == tuple(expected)


def test_a_truncation_that_the_base_came_with_cuts_no_prompt(tokenizer: Any, tiny_base: Path) -> None:
    short = AutoTokenizer.from_pretrained(tiny_base)
    short.backend_tokenizer.enable_truncation(4)
    assert Encoder(short).text("one two three four five six") == Encoder(tokenizer).text(
        "one two three four five six"
    )


def test_a_chat_that_the_template_refuses_is_the_callers_fault(tiny_base: Path) -> None:
    strict = AutoTokenizer.from_pretrained(tiny_base)
    strict.chat_template = "{{ raise_exception('no such role') }}"
    with pytest.raises(InvalidRequest, match="no such role"):
        Encoder(strict).chat(Chat((Message("user", "hi"),)))


async def test_a_long_word_leaves_the_event_loop_to_the_others(tokenizer: Any) -> None:
    encoder, longest = Encoder(tokenizer), 0.0
    encoding = asyncio.ensure_future(asyncio.to_thread(encoder.text, LONG))
    began = last = time.monotonic()
    while not encoding.done():
        await asyncio.sleep(0.005)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert len(encoding.result()) > 1000
    assert longest < max(0.25, (last - began) / 3)
