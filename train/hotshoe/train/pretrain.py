"""The `pretrain` recipe: running text of a field, every token learned (trl's SFTTrainer on packed documents).

Documents are cut into blocks at the token limit and packed to fill it; inside a block no document sees
another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotshoe.train import sft
from hotshoe.train.data import Document
from hotshoe.train.joined import keeps_apart
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.tokens import NO_LOSS, Encoded, Tokenizer, encode_document, pieces

MOST_TOKENS = 1024
"""The block where data.max_tokens says nothing: long enough for a page, short enough for a small machine."""


def encode(row: Document, tokenizer: Tokenizer) -> tuple[Encoded]:
    return (encode_document(row, tokenizer),)


def learn(lesson: Lesson) -> Learned:
    """Train the adapter on the lesson's model in place."""
    context = int(lesson.model.config.max_position_embeddings)
    documents, most = lesson.data.train.sequences, lesson.config.data.max_tokens
    learned = blocks(documents, most, context, packed=keeps_apart(lesson.model))
    rows = [_row(number, block) for number, block in enumerate(learned)]
    return sft.learn_rows(lesson, rows, places=[block[0].where for block in learned])


def blocks(
    documents: Sequence[Encoded], max_tokens: int | None, context: int, *, packed: bool = True
) -> list[list[Encoded]]:
    """What stands in a row each: documents packed to the limit, or pieces of one alone."""
    limit = min(max_tokens or MOST_TOKENS, context)
    if packed:
        return pack(documents, limit)
    return [[piece] for document in documents for piece in pieces(document, limit)]


def pack(documents: Sequence[Encoded], limit: int) -> list[list[Encoded]]:
    """Blocks of at most `limit` tokens, each of one or more pieces of documents, first fit by length.

    No token is lost: a longer document goes on in the next piece.
    """
    cut = [piece for document in documents for piece in pieces(document, limit)]
    blocks: list[list[Encoded]] = []
    free: list[int] = []
    for piece in sorted(cut, key=lambda piece: -len(piece.ids)):
        fit = next((index for index, room in enumerate(free) if room >= len(piece.ids)), None)
        if fit is None:
            blocks.append([])
            free.append(limit)
            fit = len(blocks) - 1
        blocks[fit].append(piece)
        free[fit] -= len(piece.ids)
    return blocks


def _row(number: int, block: Sequence[Encoded]) -> dict[str, Any]:
    ids = [token for piece in block for token in piece.ids]
    # Nothing stands before a document's first token, so nobody can be asked to foresee it.
    labels = [label for piece in block for label in (NO_LOSS, *piece.labels[1:])]
    positions = [position for piece in block for position in range(len(piece.ids))]
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "row": number}
