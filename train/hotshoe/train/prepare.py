"""The rows of a run: read, checked against limits and each other, and encoded, before anything is trained."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic

from hotshoe.adapter.errors import InvalidData
from hotshoe.train.audit import Note, audit, exact_leaks
from hotshoe.train.data import Fault, R, Rows, raise_for_faults, read_rows
from hotshoe.train.sections import DataConfig
from hotshoe.train.tokens import Encoded, Tokenizer, split_answer


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """A kind of rows. understand: `(where, value) -> row`, raises BadRow. encode: the row's sequences,
    one for an answer, two for a preference. splits: a row may be longer than the limit, for it is split."""

    understand: Callable[[str, Any], R]
    encode: Callable[[R, Tokenizer], tuple[Encoded, ...]]
    splits: bool = False


@dataclass(frozen=True, slots=True)
class Part(Generic[R]):
    """One source's rows, as written and as the model sees them, in the same order."""

    rows: tuple[R, ...]
    encoded: tuple[tuple[Encoded, ...], ...]
    sha256: str
    skipped: int = 0

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def sequences(self) -> tuple[Encoded, ...]:
        return tuple(sequence for row in self.encoded for sequence in row)

    @property
    def learned(self) -> float:
        """Tokens that carry loss, of a row on average."""
        return sum(sequence.learned for sequence in self.sequences) / max(len(self.rows), 1)

    def facts(self) -> dict[str, Any]:
        """For the manifest: digest and counts."""
        sequences = self.sequences
        return {
            "sha256": self.sha256,
            "rows": len(self.rows),
            "skipped": self.skipped,
            "tokens": sum(len(sequence.ids) for sequence in sequences),
            "learned_tokens": sum(sequence.learned for sequence in sequences),
            "longest": max(len(sequence.ids) for sequence in sequences),
        }


NOTHING: Part[Any] = Part((), (), "")
"""What a recipe that does not train learns from."""


@dataclass(frozen=True, slots=True)
class Prepared(Generic[R]):
    """What a run learns from and is measured on; `notes` is what people should know about the rows.

    validation: sequences set aside from the training rows, for a look at the loss on the way.
    """

    train: Part[R]
    heldout: Part[R] | None
    notes: tuple[Note, ...]
    validation: tuple[Encoded, ...] = ()

    def digests(self) -> dict[str, str]:
        """sha256 of each source that was read, by its key in the config."""
        parts = {"train": self.train, "heldout": self.heldout}
        return {name: part.sha256 for name, part in parts.items() if part}

    def facts(self) -> dict[str, Any]:
        parts = {"train": self.train, "heldout": self.heldout}
        return {name: part.facts() for name, part in parts.items() if part}


def prepare(
    data: DataConfig,
    kind: Kind[R],
    tokenizer: Tokenizer,
    *,
    context: int,
    answer_tokens: int,
    skip_bad: bool = False,
    validate_seed: int | None = None,
) -> Prepared[R]:
    """Read and encode all rows; raise InvalidData that names every row that cannot be used.

    context: the most tokens the base takes. answer_tokens: the most that it may say in the exam.
    skip_bad: go on without the faulty rows, which are written to `NAME.rejects.jsonl` beside the file they
    came from. validate_seed: draw validation rows with it.
    """
    limit = min(data.max_tokens or context, context)

    def part(place: Path | str) -> Part[R]:
        return _part(place, read_rows(place, kind.understand), kind, tokenizer, limit, skip_bad=skip_bad)

    train = NOTHING if data.train is None else part(data.train)
    heldout = None if data.heldout is None else part(data.heldout)
    if heldout is not None:
        _refuse_leaks(train, heldout)
    notes = tuple(audit(train.rows, heldout.rows if heldout else (), tokenizer.all_special_tokens))
    if heldout is not None and not kind.splits:
        notes += tuple(_cut_in_exam(heldout, answer_tokens))
    if validate_seed is None:
        return Prepared(train, heldout, notes)
    train, validation = _set_aside(train, data.validation_share, validate_seed)
    return Prepared(train, heldout, notes, validation)


def _cut_in_exam(heldout: Part[R], limit: int) -> Iterator[Note]:
    """Expected answers that the exam leaves no room for, in one note."""
    needed = [len(split_answer(encoded[0])[1]) for encoded in heldout.encoded]
    cut = [row.where for row, tokens in zip(heldout.rows, needed, strict=True) if tokens > limit]
    if cut:
        told = f"{len(cut)} expected answers are up to {max(needed)} tokens long"
        yield Note("CUT_IN_EXAM", cut[0], f"{told}, and evaluation.max_new_tokens lets models say {limit}")


def _set_aside(part: Part[R], share: float, seed: int) -> tuple[Part[R], tuple[Encoded, ...]]:
    """Split rows off a part, at least one and never all."""
    count = max(round(len(part.rows) * share), 1)
    if count >= len(part.rows):
        raise InvalidData(f"{len(part.rows)} training rows are too few to set {share:.0%} aside for checks")
    aside = frozenset(random.Random(seed).sample(range(len(part.rows)), count))
    kept = [index for index in range(len(part.rows)) if index not in aside]
    validation = tuple(sequence for index in sorted(aside) for sequence in part.encoded[index])
    rows = tuple(part.rows[index] for index in kept)
    encoded = tuple(part.encoded[index] for index in kept)
    return replace(part, rows=rows, encoded=encoded), validation


def template_digest(tokenizer: Tokenizer) -> str:
    """sha256 of the chat template's text; a server whose template differs asks another question."""
    return hashlib.sha256((tokenizer.chat_template or "").encode()).hexdigest()


def _part(
    place: Path | str, read: Rows[R], kind: Kind[R], tokenizer: Tokenizer, limit: int, *, skip_bad: bool
) -> Part[R]:
    rows: list[R] = []
    encoded: list[tuple[Encoded, ...]] = []
    faults = list(read.faults)
    for row, raw in zip(read.good, read.raw, strict=True):
        sequences = kind.encode(row, tokenizer)
        longest = max(len(sequence.ids) for sequence in sequences)
        if longest > limit and not kind.splits:
            message = f"{longest} tokens, over the limit of {limit}: shorten it, or raise data.max_tokens if "
            message += "the base takes more; nothing is ever cut"
            faults.append(Fault(row.where, message, raw))
        else:
            rows.append(row)
            encoded.append(sequences)
    if skip_bad and faults:
        _write_rejects(place, faults)
    elif faults:
        raise_for_faults(faults, total=read.total)
    if not rows:
        raise InvalidData(f"{_name(place)} has no rows to use: see docs/training.md for the forms they take")
    return Part(tuple(rows), tuple(encoded), read.sha256, len(faults))


def _write_rejects(place: Path | str, faults: Sequence[Fault]) -> None:
    beside = place if isinstance(place, Path) else Path(_name(place))
    rejects = beside.with_name(f"{beside.stem}.rejects.jsonl")
    try:
        with rejects.open("w", encoding="utf-8") as file:
            file.writelines(_reject(fault) for fault in faults)
    except OSError as error:
        raise InvalidData(
            f"{len(faults)} rejects cannot be written to {rejects}: {error.strerror}"
        ) from error


def _reject(fault: Fault) -> str:
    line = {"where": fault.where, "fault": fault.message}
    try:
        return json.dumps(line | {"row": fault.value}, default=str) + "\n"
    except (ValueError, RecursionError):
        # Nested so deeply that it can be read but not written.
        return json.dumps(line | {"row": None}) + "\n"


def _refuse_leaks(train: Part[R], heldout: Part[R]) -> None:
    leaks = exact_leaks(train.rows, heldout.rows)
    if leaks:
        shown = "\n".join(f"  {left} is {right}" for left, right in leaks[:10])
        raise InvalidData(
            f"{len(leaks)} held-out rows are trained on, so their figures mean nothing; remove them:\n{shown}"
        )


def _name(place: Path | str) -> str:
    return place.name if isinstance(place, Path) else place.partition("@")[0].rpartition("/")[2]
