"""What is suspicious about rows that are each well formed: duplicates, leaks, secrets, template tokens.

Notes, not faults: a person decides. Only an exact leak into the held-out rows stops a run.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hotshoe.train.data import Document, Example, Preference, Question, Row, Verdict

NEAR = 0.8
"""Share of common three-word runs (Jaccard) from which two questions count as nearly the same."""

FEWEST, ODD = 20, 0.1
"""From so many answers on it is told that one looks cut off, unless more than this share of them does."""

_SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an AWS access key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}\b"),
    "a JSON web token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "a password": re.compile(r"\b(?i:password|passwd|secret)\s*[:=]\s*\S{6,}"),
    "a card number": re.compile(r"\b(?:\d[ -]?){15,16}\b"),
}


@dataclass(frozen=True, slots=True)
class Note:
    """One suspicion; `code` is DUPLICATE, NEAR_DUPLICATE, CONTRADICTION, NEAR_LEAK, CUT_OFF, CUT_IN_EXAM,
    SECRET or TEMPLATE_TOKEN."""

    code: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def audit(train: Sequence[Row], heldout: Sequence[Row], special_tokens: Sequence[str]) -> Iterator[Note]:
    """Every suspicion about the rows, by kind."""
    yield from _duplicates(train)
    yield from _near(train, heldout)
    yield from _cut_off(train)
    for row in (*train, *heldout):
        yield from _contents(row, special_tokens)


def exact_leaks(train: Sequence[Row], heldout: Sequence[Row]) -> list[tuple[str, str]]:
    """Pairs (held-out row, training row) with the same question, upper case and blanks aside."""
    seen = {_normal(asked(row)): row.where for row in train}
    return [(row.where, seen[key]) for row in heldout if (key := _normal(asked(row))) in seen]


def asked(row: Row) -> str:
    """The question of a row; of a document, its text."""
    if isinstance(row, Document):
        return row.text
    assert isinstance(row, Example | Preference | Verdict | Question)
    return "\n".join(turn.content for turn in row.prompt)


def told(row: Row) -> tuple[str, ...]:
    """The answers of a row, as they stand."""
    match row:
        case Example() | Question():
            return (row.answer,)
        case Verdict():
            return (f"{row.good}: {row.answer}",)
        case Preference():
            return (row.chosen, row.rejected)
    return ()


def _duplicates(rows: Sequence[Row]) -> Iterator[Note]:
    first: dict[str, Row] = {}
    for row in rows:
        key = _normal(asked(row))
        before = first.setdefault(key, row)
        if before is row:
            continue
        if told(before) == told(row):
            yield Note("DUPLICATE", row.where, f"the same as {before.where}")
        elif isinstance(row, Example):
            yield Note("CONTRADICTION", row.where, f"the question of {before.where} with another answer")


def _near(train: Sequence[Row], heldout: Sequence[Row]) -> Iterator[Note]:
    """Questions that share most of their three-word runs with an earlier training question."""
    runs = [_runs(asked(row)) for row in train]
    counts = Counter(run for row in runs for run in row)
    # What stands in every tenth row is the instruction, not the question.
    common = {run for run, count in counts.items() if count > max(len(train) // 10, 3)}
    holders: defaultdict[str, list[int]] = defaultdict(list)

    def nearest(mine: set[str]) -> int | None:
        shared = Counter(index for run in mine for index in holders[run])
        for index, count in shared.most_common(1):
            if count >= NEAR * len(mine | (runs[index] - common)):
                return index
        return None

    for index, row in enumerate(train):
        mine = runs[index] - common
        found = nearest(mine)
        if found is not None and _normal(asked(row)) != _normal(asked(train[found])):
            yield Note("NEAR_DUPLICATE", row.where, f"nearly the same question as {train[found].where}")
        for run in mine:
            holders[run].append(index)
    for row in heldout:
        if (found := nearest(_runs(asked(row)) - common)) is not None:
            yield Note("NEAR_LEAK", row.where, f"nearly the same question as {train[found].where}")


def _cut_off(rows: Sequence[Row]) -> Iterator[Note]:
    """Answers that end in the middle of something, where nearly all others do not."""
    answers = [(row, answer.rstrip()) for row in rows if isinstance(row, Example) for answer in told(row)]
    odd = [row for row, answer in answers if not _closed(answer)]
    if len(answers) >= FEWEST and len(odd) <= ODD * len(answers):
        for row in odd:
            yield Note("CUT_OFF", row.where, "the answer ends without a mark that nearly all others end with")


def _closed(answer: str) -> bool:
    """Does it end with a mark or a symbol of whatever language, and not with one that something follows?"""
    return unicodedata.category(answer[-1])[0] in "PS" and answer[-1] not in ",-"


def _contents(row: Row, special_tokens: Sequence[str]) -> Iterator[Note]:
    text = "\n".join((asked(row), *told(row)))
    for name, pattern in _SECRETS.items():
        if (found := pattern.search(text)) and (name != "a card number" or _luhn(found[0])):
            yield Note("SECRET", row.where, f"looks as if it holds {name}; a model repeats what it learns")
    for token in special_tokens:
        if token in text:
            yield Note("TEMPLATE_TOKEN", row.where, f"holds {token!r}, which ends or opens a turn")


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _runs(text: str) -> set[str]:
    words = re.findall(r"\w+", text.casefold())
    return {" ".join(words[start : start + 3]) for start in range(max(len(words) - 2, 1))}


def _luhn(text: str) -> bool:
    """Does the number pass the check that card numbers pass (ISO/IEC 7812)?"""
    digits = [int(character) for character in reversed(text) if character.isdigit()]
    doubled = (digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
