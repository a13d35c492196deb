"""Three tasks on the corpus: sort a sentence, read an entry into JSON, write a sentence.

Their answers are what the libraries' authors wrote. No file of a library gives rows to both parts, and
no question stands twice. Which rows are drawn does not depend on the training's seed.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.corpus import FOLDERS, Function, functions

MODULE_ROWS = 4
"""The most rows of one file, so that no file fills a part by itself."""

Row = dict[str, Any]
Questions = Iterator[tuple[str, Row]]
"""The file that a row is from, and the row."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked, and how answers are judged. groups: rows come from each of these libraries alike.

    rows: a library's rows. train, heldout: how many are drawn. max_new_tokens: the longest answer.
    """

    name: str
    about: str
    metric: str
    groups: tuple[str, ...]
    rows: Callable[[Iterable[Function]], Questions]
    train: int
    heldout: int
    max_new_tokens: int
    steps: int
    batch_rows: int

    def write(self, folder: Path) -> None:
        """Draw the rows, and write `NAME-train.jsonl` and `NAME-heldout.jsonl`."""
        parts: dict[str, list[Row]] = {"train": [], "heldout": []}
        draw = random.Random(self.name)
        asked: set[str] = set()
        for library in self.groups:
            by_module: dict[str, list[Row]] = {}
            for module, row in self.rows(functions(library)):
                if row["input"] not in asked:
                    asked.add(row["input"])
                    by_module.setdefault(module, []).append(row)
            wanted = {part: size // len(self.groups) for part, size in self._sizes().items()}
            for part, rows in _deal(by_module, wanted, draw).items():
                parts[part] += rows
        for part, rows in parts.items():
            draw.shuffle(rows)
            self.path(folder, part).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def path(self, folder: Path, part: str) -> Path:
        return folder / f"{self.name}-{part}.jsonl"

    def _sizes(self) -> dict[str, int]:
        return {"heldout": self.heldout, "train": self.train}


def _deal(
    by_module: Mapping[str, list[Row]], wanted: Mapping[str, int], draw: random.Random
) -> dict[str, list[Row]]:
    """Fill one part after the other, a few rows of each file, whole files to a part."""
    modules = sorted(by_module)
    draw.shuffle(modules)
    dealt: dict[str, list[Row]] = {}
    for part, size in wanted.items():
        rows: list[Row] = []
        while len(rows) < size:
            if not modules:
                raise ValueError(f"too few rows for {size} of {part}: the corpus has changed")
            module = by_module[modules.pop()]
            rows += draw.sample(module, min(len(module), MODULE_ROWS))
        dealt[part] = rows[:size]
    return dealt


def _library(found: Iterable[Function]) -> Questions:
    for function in found:
        summary = function.summary
        if 25 <= len(summary) <= 100 and function.library not in summary.lower():
            yield function.module, _row(_WHICH, summary, function.library)


_WHICH = f"Which Python library is it from: {', '.join(FOLDERS)}? Answer with its name."


def _parameters(found: Iterable[Function]) -> Questions:
    for function in found:
        for name, kind, text in function.parameters():
            entry = f"{name} : {kind}\n    {text}"
            if len(entry) <= 160 and (answer := _entry(name, kind)):
                yield function.module, _row(_READ, entry, json.dumps(answer))


_READ = "Answer with JSON: name, type, optional, default."

_DEFAULT = re.compile(r"[,\s]*\(?\bdefault(?: is|s to)?\s*[:=]?\s*([^\s,()]+)\)?$")
_OPTIONAL = re.compile(r"[,\s]*\(?\boptional\b\)?")


def _entry(name: str, kind: str) -> dict[str, Any] | None:
    """What a numpydoc entry's first line says; None where it is written in a way of its own."""
    default = _DEFAULT.search(kind)
    rest = kind[: default.start()] if default else kind
    optional = bool(default or _OPTIONAL.search(rest))
    rest = _OPTIONAL.sub("", rest).strip().rstrip(".")
    if not rest or "default" in rest or len(rest) > 40:
        return None
    value = default[1].strip("`'\"") if default else None
    return {"name": name, "type": rest, "optional": optional, "default": value}


def _summary(found: Iterable[Function]) -> Questions:
    for function in found:
        if len(function.signature) <= 60 and 20 <= len(function.summary) <= 70:
            yield function.module, _row(_WRITE, f"{function.library}: {function.signature}", function.summary)


_WRITE = "Say in one short sentence what this function does."


def _row(system: str, question: str, answer: str) -> Row:
    return {"system": system, "input": question, "output": answer}


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="library",
            about="a function's one-line summary -> which of six libraries it is from",
            metric="exact",
            groups=tuple(FOLDERS),
            rows=_library,
            train=120,
            heldout=60,
            max_new_tokens=5,
            steps=30,
            batch_rows=4,
        ),
        Task(
            name="parameters",
            about="an entry of a function's documentation -> JSON of name, type, optional and default",
            metric="fields",
            groups=("networkx", "numpy", "pandas"),
            rows=_parameters,
            train=120,
            heldout=36,
            max_new_tokens=44,
            steps=40,
            batch_rows=2,
        ),
        Task(
            name="summary",
            about="a function's signature -> its one-line summary",
            metric="rouge_l",
            groups=("networkx", "pandas", "sympy"),
            rows=_summary,
            train=180,
            heldout=48,
            max_new_tokens=24,
            steps=40,
            batch_rows=2,
        ),
    )
}
