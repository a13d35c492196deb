"""The forms that rows are written in.

    {"instruction": "...", "input": "...", "output": "..."}   chat: one question, one answer
    {"input": "...", "output": "..."}                         the same without an instruction
    {"messages": [{"role": "user", "content": "..."}, ...]}   chat: every assistant turn is learned
    {"prompt": "...", "completion": "..."}                    plain text, continued as it stands

A question is written in the same three ways wherever one is needed, and `chosen` and `rejected`, or
`completion` and `label`, stand beside it in place of the answer; messages then end with the user.
Chat goes through the base's chat template, `prompt` does not. `system` may stand beside instruction
and input, `id` beside everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hotshoe.train.data import BadRow, Document, Example, Preference, Question, Ranking, Turn, Verdict
from hotshoe.train.reading import nearest

_QUESTION: Mapping[str, frozenset[str]] = {
    "messages": frozenset({"messages"}),
    "prompt": frozenset({"prompt"}),
    "instruction/input": frozenset({"instruction", "input", "system"}),
}
"""Every way to write a question, by the keys it may have."""

_FREE_KEYS = frozenset({"id"})
_ROLES = ("system", "user", "assistant", "tool")


def example(where: str, value: Any) -> Example:
    """A question with its answer."""
    row = _object(value)
    if "messages" in row:
        _only(row, _QUESTION["messages"])
        turns = tuple(_messages(row["messages"]))
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise BadRow("messages must end with an assistant turn that answers something")
        return Example(where, turns)
    answer = "completion" if "prompt" in row else "output"
    prompt, templated = _question(row, answer)
    return Example(where, (*prompt, Turn("assistant", _text(row, answer))), templated)


def preference(where: str, value: Any) -> Preference:
    """A question with `chosen`, the better answer, and `rejected`, the worse one."""
    row = _object(value)
    prompt, templated = _question(row, "chosen", "rejected")
    chosen, rejected = _text(row, "chosen"), _text(row, "rejected")
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same: there is nothing to prefer")
    return Preference(where, prompt, chosen, rejected, templated)


def verdict(where: str, value: Any) -> Verdict:
    """A question, its `completion`, and `label`: true for thumbs up, false for thumbs down."""
    row = _object(value)
    prompt, templated = _question(row, "completion", "label")
    if not isinstance(row["label"], bool):
        raise BadRow(f"label must be true or false, not {_kind(row['label'])}")
    return Verdict(where, prompt, _text(row, "completion"), row["label"], templated)


def question(where: str, value: Any) -> Question:
    """A question, with the expected `output` where a reward needs it."""
    row = _object(value)
    known = "output" in row
    prompt, templated = _question(row, *(["output"] if known else []))
    return Question(where, prompt, _text(row, "output") if known else "", templated)


def ranking(where: str, value: Any) -> Ranking:
    """A question with `ranked`, a list of answers from the best to the worst; or with chosen and rejected."""
    row = _object(value)
    if "ranked" not in row:
        pair = preference(where, value)
        return Ranking(where, pair.prompt, (pair.chosen, pair.rejected), pair.templated)
    prompt, templated = _question(row, "ranked")
    answers = row["ranked"]
    if not isinstance(answers, list) or len(answers) < 2:
        raise BadRow("ranked must be a list of two or more answers, the best first")
    texts = tuple(_text({"ranked": answer}, "ranked") for answer in answers)
    return Ranking(where, prompt, texts, templated)


def document(where: str, value: Any) -> Document:
    """Running `text`."""
    row = _object(value)
    if "text" not in row:
        raise BadRow(f"has {_keys(row)}: a document has text")
    _only(row, frozenset({"text"}))
    return Document(where, _text(row, "text"))


def _question(row: Mapping[str, Any], *answers: str) -> tuple[tuple[Turn, ...], bool]:
    """The turns that ask, and whether they go through the chat template."""
    if missing := [key for key in answers if key not in row]:
        raise BadRow(f"has {_keys(row)}: {' and '.join(missing)} is missing")
    name = next((name for name, keys in _QUESTION.items() if not keys.isdisjoint(row)), None)
    if name is None:
        raise BadRow(f"has {_keys(row)}: the question is missing, give one of {', '.join(_QUESTION)}")
    _only(row, _QUESTION[name] | set(answers))
    if name == "messages":
        turns = tuple(_messages(row["messages"]))
        if turns[-1].role == "assistant":
            raise BadRow("messages must end before the answer")
        return turns, True
    if name == "prompt":
        return (Turn("user", _text(row, "prompt")),), False
    asked = [_text(row, key) for key in ("instruction", "input") if row.get(key) not in (None, "")]
    if not asked:
        raise BadRow("the question is empty: fill instruction or input")
    system = (Turn("system", _text(row, "system")),) if row.get("system") else ()
    return (*system, Turn("user", "\n\n".join(asked))), True


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRow(f"a row is a JSON object, this is {_kind(value)}")
    return value


def _only(row: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse a key that nobody reads: it is a typing error, and what it holds would be lost."""
    for key in row:
        if key not in known | _FREE_KEYS:
            raise BadRow(f"unknown key {key!r}{nearest(key, sorted(known))}")


def _messages(value: object) -> Iterator[Turn]:
    if not isinstance(value, list) or not value:
        raise BadRow("messages must be a list of turns" + ("" if value == [] else f", not {_kind(value)}"))
    for index, message in enumerate(value):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise BadRow(f"messages[{index}] needs role and content")
        if message["role"] not in _ROLES:
            raise BadRow(f"messages[{index}] has role {message['role']!r}: use one of {', '.join(_ROLES)}")
        yield Turn(message["role"], _text(message, "content"))


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise BadRow(f"{key} must be text, not {_kind(value)}")
    if not value.strip():
        raise BadRow(f"{key} is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow(f"{key} holds half a surrogate pair, which no tokenizer can read") from None
    return value


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(repr, row))) or "no keys"


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
