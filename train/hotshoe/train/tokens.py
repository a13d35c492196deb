"""From rows to token ids and labels: what is learned, exactly.

The prompt is tokenized by itself, as a server does it, and the answer by itself after it, so training
and serving see the same ids. Only answers have labels, and the last label is the end-of-sequence
token: a model that never learned it never stops. Nothing is ever cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.data import Document, Example, Preference, Question, Ranking, Turn, Verdict

NO_LOSS = -100
"""The label of a token that is read but not learned (torch's ignore_index)."""

Tokenizer = Any
"""A transformers tokenizer; Any, because transformers is imported where it is used and has no types."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sequence as the model sees it; `labels` is as long as `ids`, NO_LOSS where nothing is learned."""

    where: str
    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def learned(self) -> int:
        """How many tokens carry loss."""
        return sum(label != NO_LOSS for label in self.labels)


def encode_example(example: Example, tokenizer: Tokenizer) -> Encoded:
    """Tokenize a row; raise InvalidConfig where the chat template cannot be trained on."""
    ids: list[int] = []
    labels: list[int] = []
    for text, learned in _segments(example, tokenizer):
        # Only plain text gets a BOS, and only in front: a template writes its own.
        special = not example.templated and not ids
        piece = tokenizer(text, add_special_tokens=special)["input_ids"]
        if learned:
            piece = [*piece, tokenizer.eos_token_id]
        ids += piece
        labels += piece if learned else [NO_LOSS] * len(piece)
    return Encoded(example.where, tuple(ids), tuple(labels))


def encode_document(document: Document, tokenizer: Tokenizer) -> Encoded:
    """Tokenize running text; all of it is learned, and the EOS after it is the document's boundary."""
    ids = (*tokenizer(document.text)["input_ids"], tokenizer.eos_token_id)
    return Encoded(document.where, ids, ids)


def prompt_ids(row: Example | Question, tokenizer: Tokenizer) -> list[int]:
    """The ids that a server would see for this row's question."""
    if not row.templated:
        return list(tokenizer(row.prompt[0].content)["input_ids"])
    return list(tokenizer(render(row.prompt, tokenizer, ask=True), add_special_tokens=False)["input_ids"])


def render(turns: Sequence[Turn], tokenizer: Tokenizer, *, ask: bool) -> str:
    """Turns through the chat template; `ask` ends with the opening of an assistant turn."""
    if not tokenizer.chat_template:
        raise InvalidConfig(
            "the base has no chat template: use {prompt, completion} rows, or a base that is tuned for chat"
        )
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask))


def answered(row: Preference | Verdict | Question | Ranking, answer: str) -> Example:
    """A row's question with an answer, as a row of its own."""
    return Example(row.where, (*row.prompt, Turn("assistant", answer)), row.templated)


def pieces(row: Encoded, limit: int) -> list[Encoded]:
    """A long row in pieces of at most `limit` tokens; none is lost."""
    return [
        Encoded(row.where, row.ids[start : start + limit], row.labels[start : start + limit])
        for start in range(0, len(row.ids), limit)
    ]


def split_answer(row: Encoded) -> tuple[list[int], list[int]]:
    """The ids of a row before its last answer, and the answer's with its end."""
    start = max((index + 1 for index, label in enumerate(row.labels) if label == NO_LOSS), default=0)
    return list(row.ids[:start]), list(row.ids[start:])


def _segments(example: Example, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """The row's text in pieces of (text, is it learned); a learned piece goes without its EOS."""
    if not example.templated:
        return [(example.turns[0].content, False), (example.answer, True)]
    pieces: list[tuple[str, bool]] = []
    done = ""
    for index, turn in enumerate(example.turns):
        if turn.role != "assistant":
            continue
        asked = render(example.turns[:index], tokenizer, ask=True)
        told = render(example.turns[: index + 1], tokenizer, ask=False)
        answer, ended, _ = told.removeprefix(asked).partition(tokenizer.eos_token)
        if not (asked.startswith(done) and told.startswith(asked) and ended):
            raise InvalidConfig(
                f"{example.where}: the base's chat template rewrites earlier turns or does not end an answer "
                f"with {tokenizer.eos_token!r}; give the rows as {{prompt, completion}} instead"
            )
        pieces += [(asked[len(done) :], False), (answer, True)]
        done = asked + answer + ended
    return pieces
