"""How an answer is compared with the one that was expected: pure functions from two texts to 0..1.

A run's figure is the mean over the held-out rows. Register a metric by adding it to METRICS.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Metric = Callable[[str, str], float]
"""`(answer, expected) -> score`, 0 is wrong and 1 is right."""


def exact(answer: str, expected: str) -> float:
    """1 where both are the same text, blanks at the ends aside."""
    return float(answer.strip() == expected.strip())


def f1(answer: str, expected: str) -> float:
    """Overlap of words as in SQuAD (Rajpurkar et al., 2016): harmonic mean of precision and recall."""
    got, wanted = _words(answer), _words(expected)
    if not got or not wanted:
        return float(got == wanted)
    common = sum((Counter(got) & Counter(wanted)).values())
    return 2 * common / (len(got) + len(wanted))


def rouge_l(answer: str, expected: str) -> float:
    """F-measure of the longest common subsequence of words, ROUGE-L (Lin, 2004)."""
    got, wanted = _words(answer), _words(expected)
    if not got or not wanted:
        return float(got == wanted)
    return 2 * _longest_common_subsequence(got, wanted) / (len(got) + len(wanted))


def json_object(answer: str, expected: str) -> float:
    """1 where the answer is one JSON object with exactly the keys of the expected one."""
    got, wanted = _object(answer), _object(expected)
    return float(got is not None and wanted is not None and got.keys() == wanted.keys())


def fields(answer: str, expected: str) -> float:
    """Share of the expected fields whose value is the expected one.

    Fields are the keys of a JSON object or, where the expected text is none, lines of the form
    `KEY: value`. A field that the answer has too many counts as one that is wrong.
    """
    wanted = _object(expected)
    got = _lines(answer) if wanted is None else _object(answer) or {}
    wanted = _lines(expected) if wanted is None else wanted
    names = wanted.keys() | got.keys()
    right = sum(name in got and name in wanted and _same(got[name], wanted[name]) for name in names)
    return right / len(names) if names else 1.0


def form(answer: str, expected: str) -> float:
    """1 where the answer has the same `KEY:` lines in the same order, each filled, and nothing else."""
    keys = [line.partition(":")[0] for line in expected.strip().splitlines()]
    lines = answer.strip().splitlines()
    filled = all(re.fullmatch(r"[^:]+: ?\S.*", line) for line in lines)
    return float(filled and [line.partition(":")[0] for line in lines] == keys)


METRICS: Mapping[str, Metric] = {
    "exact": exact,
    "f1": f1,
    "rouge_l": rouge_l,
    "json": json_object,
    "fields": fields,
    "form": form,
}


def _words(text: str) -> list[str]:
    """Lower-case words without punctuation and articles, SQuAD's normal form."""
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return [word for word in plain.split() if word not in ("a", "an", "the")]


def _longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    row = [0] * (len(right) + 1)
    for word in left:
        above, row = row, [0]
        for column, other in enumerate(right):
            row.append(above[column] + 1 if word == other else max(above[column + 1], row[-1]))
    return row[-1]


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _lines(text: str) -> dict[str, Any]:
    pairs = (line.partition(":") for line in text.strip().splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _same(got: object, wanted: object) -> bool:
    if isinstance(got, str) and isinstance(wanted, str):
        return got.strip().casefold() == wanted.strip().casefold()
    return type(got) is type(wanted) and got == wanted
