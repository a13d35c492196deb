"""Training rows: read, checked one by one, and brought to one shape.

A JSONL line is one of

    {"instruction": "...", "input": "...", "output": "..."}   chat: one question, one answer
    {"input": "...", "output": "..."}                         the same without an instruction
    {"messages": [{"role": "user", "content": "..."}, ...]}   chat: every assistant turn is learned
    {"prompt": "...", "completion": "..."}                    plain text, continued as it stands

Chat rows are rendered through the base's chat template, plain ones are not. `system` may stand beside
the first two, `id` beside all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import InvalidData
from hotshoe.train.config import nearest

FORMS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "messages": (frozenset({"messages"}), frozenset()),
    "prompt/completion": (frozenset({"prompt", "completion"}), frozenset()),
    "instruction/input/output": (frozenset({"output"}), frozenset({"instruction", "input", "system"})),
}
"""Every form by name: the keys it must have, and those it may have."""

_FREE_KEYS = frozenset({"id"})
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message; role is system, user, assistant or tool."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row. The last turn is the assistant's; `where` is file:line, for every message about it.

    templated: the turns go through the chat template; otherwise they are prompt and completion, as is.
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
class Fault:
    """What is wrong with one row."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Rows:
    """A file's good rows and its faults; sha256 is over the file's bytes."""

    examples: tuple[Example, ...]
    faults: tuple[Fault, ...]
    sha256: str


def read_rows(path: Path) -> Rows:
    """Read a JSONL file, every line checked. Blank lines are skipped; nothing is raised for a bad row."""
    data = path.read_bytes()
    examples: list[Example] = []
    faults: list[Fault] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            examples.append(_example(where, _object(line)))
        except _BadRow as error:
            faults.append(Fault(where, str(error)))
    return Rows(tuple(examples), tuple(faults), hashlib.sha256(data).hexdigest())


def require_good(rows: Rows, path: Path) -> tuple[Example, ...]:
    """The rows of a file that has no faults and is not empty; raise InvalidData otherwise."""
    raise_for_faults(rows.faults, total=len(rows.examples) + len(rows.faults))
    if not rows.examples:
        raise InvalidData(f"{path.name} has no rows: write one JSON object a line, see docs/training.md")
    return rows.examples


def raise_for_faults(faults: Sequence[Fault], *, total: int, shown: int = 10) -> None:
    """Raise InvalidData naming the first faults, file and line each, and how many there are."""
    if not faults:
        return
    lines = [f"  {fault}" for fault in faults[:shown]]
    if len(faults) > shown:
        lines.append(f"  and {len(faults) - shown} more")
    raise InvalidData(f"{len(faults)} of {total} rows cannot be trained on:\n" + "\n".join(lines))


def overlap(train: Sequence[Example], heldout: Sequence[Example]) -> list[tuple[str, str]]:
    """Pairs (held-out row, training row) with the same prompt, upper case and blanks aside."""
    seen = {_key(example): example.where for example in train}
    return [(example.where, seen[key]) for example in heldout if (key := _key(example)) in seen]


class _BadRow(Exception):
    """A row that cannot be used; the message says why."""


def _key(example: Example) -> str:
    return " ".join(" ".join(turn.content for turn in example.prompt).casefold().split())


def _object(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _BadRow(f"not UTF-8 at byte {error.start} of the line") from None
    except (ValueError, RecursionError) as error:
        raise _BadRow(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise _BadRow(f"a row is a JSON object, this is {_kind(row)}")
    return row


def _example(where: str, row: dict[str, Any]) -> Example:
    form = _form_of(row)
    if form == "messages":
        return Example(where, tuple(_messages(row["messages"])))
    if form == "prompt/completion":
        turns = (Turn("user", _text(row, "prompt")), Turn("assistant", _text(row, "completion")))
        return Example(where, turns, templated=False)
    asked = [_text(row, key) for key in ("instruction", "input") if row.get(key) not in (None, "")]
    if not asked:
        raise _BadRow("the question is empty: fill instruction or input")
    system = (Turn("system", _text(row, "system")),) if row.get("system") else ()
    chat = (Turn("user", "\n\n".join(asked)), Turn("assistant", _text(row, "output")))
    return Example(where, (*system, *chat))


def _form_of(row: Mapping[str, Any]) -> str:
    for name, (required, optional) in FORMS.items():
        if required <= row.keys():
            known = required | optional | _FREE_KEYS
            for key in row.keys() - known:
                raise _BadRow(f"unknown key {key!r}{nearest(key, dict.fromkeys(known))} in a {name} row")
            return name
    keys = ", ".join(sorted(map(repr, row))) or "no keys"
    raise _BadRow(f"has {keys}: a row needs one of {'; '.join(FORMS)}")


def _messages(value: object) -> Iterator[Turn]:
    if not isinstance(value, list) or not value:
        raise _BadRow(f"messages must be a list of turns, not {_kind(value)}")
    for index, message in enumerate(value):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise _BadRow(f"messages[{index}] needs role and content")
        if message["role"] not in _ROLES:
            raise _BadRow(f"messages[{index}] has role {message['role']!r}: use one of {', '.join(_ROLES)}")
        yield Turn(message["role"], _text(message, "content"))
    if len(value) < 2 or value[-1]["role"] != "assistant":
        raise _BadRow("messages must end with an assistant turn that answers something")


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise _BadRow(f"{key} must be text, not {_kind(value)}")
    if not value.strip():
        raise _BadRow(f"{key} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise _BadRow(f"{key} holds half a surrogate pair, which no tokenizer can read") from None
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
