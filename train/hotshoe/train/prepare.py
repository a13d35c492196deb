"""The rows of a run: read, checked against each other, and encoded, before anything is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import InvalidData
from hotshoe.train.config import DataConfig
from hotshoe.train.data import Example, overlap, read_rows, require_good
from hotshoe.train.tokens import Encoded, Tokenizer, encode_all


@dataclass(frozen=True, slots=True)
class Part:
    """One file's rows, as written and as the model sees them, in the same order."""

    examples: tuple[Example, ...]
    rows: tuple[Encoded, ...]
    sha256: str

    def facts(self) -> dict[str, Any]:
        return {
            "sha256": self.sha256,
            "rows": len(self.rows),
            "tokens": sum(len(row.ids) for row in self.rows),
            "learned_tokens": sum(row.learned for row in self.rows),
        }


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run learns from and is measured on."""

    train: Part
    heldout: Part | None

    def facts(self) -> dict[str, Any]:
        parts = {"train": self.train, "heldout": self.heldout}
        return {name: part.facts() for name, part in parts.items() if part is not None}


def prepare(data: DataConfig, tokenizer: Tokenizer, *, context: int) -> Prepared:
    """Read and encode all rows; raise InvalidData that names every row that cannot be used.

    context: the most tokens the base takes.
    """
    limit = min(data.max_tokens or context, context)
    train = _part(data.train, tokenizer, limit)
    heldout = None if data.heldout is None else _part(data.heldout, tokenizer, limit)
    if heldout is not None:
        _refuse_leaks(train.examples, heldout.examples)
    return Prepared(train, heldout)


def template_digest(tokenizer: Tokenizer) -> str:
    """sha256 of the chat template's text; a server whose template differs asks another question."""
    return hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()


def _part(path: Path, tokenizer: Tokenizer, limit: int) -> Part:
    rows = read_rows(path)
    examples = require_good(rows, path)
    return Part(examples, tuple(encode_all(examples, tokenizer, max_tokens=limit)), rows.sha256)


def _refuse_leaks(train: Sequence[Example], heldout: Sequence[Example]) -> None:
    leaks = overlap(train, heldout)
    if leaks:
        shown = "\n".join(f"  {left} is {right}" for left, right in leaks[:10])
        raise InvalidData(
            f"{len(leaks)} held-out rows are trained on, so their figures mean nothing; remove them:\n{shown}"
        )
