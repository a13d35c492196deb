"""Training rows, checked one by one: what kinds there are, and how a source of them is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from hotshoe.adapter.errors import InvalidData
from hotshoe.train.sources import read_source

_MAX_MESSAGE = 400


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; role is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its answer. The last turn is the assistant's; earlier ones may be, too.

    where: file:line, for every message about the row. templated: the turns go through the chat
    template; otherwise they are a prompt and its completion, as they stand.
    """

    where: str
    turns: tuple[Turn, ...]
    templated: bool = True

    @property
    def prompt(self) -> tuple[Turn, ...]:
        return self.turns[:-1]

    @property
    def answer(self) -> str:
        return self.turns[-1].content


@dataclass(frozen=True, slots=True)
class Preference:
    """A question with a better and a worse answer."""

    where: str
    prompt: tuple[Turn, ...]
    chosen: str
    rejected: str
    templated: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """A question with an answer that somebody found good or bad."""

    where: str
    prompt: tuple[Turn, ...]
    answer: str
    good: bool
    templated: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """A question alone; `answer` is what is expected, where that is known."""

    where: str
    prompt: tuple[Turn, ...]
    answer: str
    templated: bool = True


@dataclass(frozen=True, slots=True)
class Ranking:
    """A question with two or more answers, the best first."""

    where: str
    prompt: tuple[Turn, ...]
    ranked: tuple[str, ...]
    templated: bool = True


@dataclass(frozen=True, slots=True)
class Document:
    """Running text."""

    where: str
    text: str


class Row(Protocol):
    """Any of the above."""

    @property
    def where(self) -> str: ...


R = TypeVar("R", bound=Row)
"""One kind of row."""


class BadRow(Exception):
    """A row that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one row; `value` is the row as it was read, where it could be."""

    where: str
    message: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Rows(Generic[R]):
    """A source's good rows, `raw` as they were read, and its faults; sha256 is over the source's bytes."""

    good: tuple[R, ...]
    raw: tuple[Any, ...]
    faults: tuple[Fault, ...]
    sha256: str

    @property
    def total(self) -> int:
        return len(self.good) + len(self.faults)


def read_rows(place: Path | str, understand: Callable[[str, Any], R]) -> Rows[R]:
    """Read a source, every row checked; nothing is raised for a bad row.

    understand: `(where, value) -> row`, one of hotshoe.train.forms; raises BadRow.
    """
    source = read_source(place)
    good: list[R] = []
    values: list[Any] = []
    faults: list[Fault] = []
    for raw in source.rows:
        if raw.fault is not None:
            faults.append(Fault(raw.where, raw.fault, raw.value))
            continue
        try:
            good.append(understand(raw.where, raw.value))
            values.append(raw.value)
        except BadRow as error:
            faults.append(Fault(raw.where, _shortened(str(error)), raw.value))
    return Rows(tuple(good), tuple(values), tuple(faults), source.sha256)


def _shortened(message: str) -> str:
    """A message names a row's keys, which a stranger may have made as many and as long as rows go."""
    return message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]} ..."


def raise_for_faults(faults: Sequence[Fault], *, total: int, shown: int = 10) -> None:
    """Raise InvalidData naming the first faults, file and line each, and how many there are."""
    if not faults:
        return
    lines = [f"  {fault}" for fault in faults[:shown]]
    if len(faults) > shown:
        lines.append(f"  and {len(faults) - shown} more")
    raise InvalidData(f"{len(faults)} of {total} rows cannot be used:\n" + "\n".join(lines))
