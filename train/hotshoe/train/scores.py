"""What an answer is worth: metrics, patterns, JSON schemas and Python functions, called in one way."""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.exam_section import EvaluationConfig
from hotshoe.train.metrics import METRICS

Score = Callable[[str, str, str], float]
"""`(question, answer, expected) -> score`, more is better; expected is empty where a row has no answer."""


def scores_for(evaluation: EvaluationConfig) -> dict[str, Score]:
    """Every metric that the config names, ready to be called.

    Raises InvalidConfig for a schema or a function that cannot be used; a function that fails, or gives no
    finite number, raises it when it is called.
    """
    return {
        **{name: _metric(name) for name in evaluation.metrics},
        **{name: _pattern(pattern) for name, pattern in evaluation.patterns.items()},
        **{name: _schema(path) for name, path in evaluation.schemas.items()},
        **{name: function_score(place) for name, place in evaluation.functions.items()},
    }


def score_named(name: str, evaluation: EvaluationConfig) -> Score:
    """One of the config's own metrics, or a built-in one."""
    return _metric(name) if name in METRICS else scores_for(evaluation)[name]


def function_score(place: str) -> Score:
    """`FILE.py:NAME` as a score; raise InvalidConfig that says what is missing."""
    function = _load(place)

    def score(question: str, answer: str, expected: str) -> float:
        try:
            value = float(function(question, answer, expected))
        except Exception as error:
            raise InvalidConfig(f"{place} fails on {answer!r}: {type(error).__name__}: {error}") from error
        if not math.isfinite(value):
            raise InvalidConfig(f"{place} gives {value} for {answer!r}: a score is a finite number")
        return value

    return score


def mean(score: Score, told: list[tuple[str, str, str]]) -> float:
    """Of (question, answer, expected); 0 of nothing."""
    return sum(score(*each) for each in told) / max(len(told), 1)


def _metric(name: str) -> Score:
    metric = METRICS[name]
    return lambda question, answer, expected: metric(answer, expected)


def _pattern(pattern: str) -> Score:
    wanted = re.compile(pattern)
    return lambda question, answer, expected: float(wanted.search(answer) is not None)


def _schema(path: Path) -> Score:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        schema = json.loads(path.read_bytes())
        kind = validator_for(schema, default=Draft202012Validator)
        kind.check_schema(schema)
    except (ValueError, TypeError, RecursionError, SchemaError) as error:
        reason = error.message if isinstance(error, SchemaError) else error
        raise InvalidConfig(f"{path} is no JSON Schema: {reason}") from None
    # An empty registry: a reference to elsewhere is an error, never a download.
    validator = kind(schema, registry=Registry())

    def score(question: str, answer: str, expected: str) -> float:
        try:
            return float(validator.is_valid(json.loads(answer)))
        except Unresolvable as error:
            raise InvalidConfig(f"{path} refers to a schema that does not stand in it: {error}") from error
        except (ValueError, RecursionError):
            return 0.0

    return score


def _load(place: str) -> Callable[..., Any]:
    file, _, name = place.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"hotshoe_score_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidConfig(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidConfig(f"{path} fails: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise InvalidConfig(f"{path} has no function {name!r}")
    return found  # type: ignore[no-any-return]
