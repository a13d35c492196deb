"""The table of a training config that says what is measured on the held-out rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Self

from pydantic import Field, field_validator, model_validator

from hotshoe.train.fields import File, Function, Section
from hotshoe.train.gates import FIGURES
from hotshoe.train.metrics import METRICS
from hotshoe.train.reading import nearest

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class EvaluationConfig(Section):
    """How base and adapter are compared on the held-out rows, by greedy generation."""

    metrics: tuple[str, ...] = Field(
        default=("exact", "f1"), min_length=1, description="Names from hotshoe.train.metrics."
    )
    patterns: dict[str, str] = Field(
        default_factory=dict,
        description="Metrics of your own by name: a regular expression to be found in an answer.",
    )
    schemas: dict[str, File] = Field(
        default_factory=dict,
        description="Metrics of your own by name: a JSON Schema that an answer should satisfy.",
    )
    functions: dict[str, Function] = Field(
        default_factory=dict,
        description="Metrics of your own by name: FILE.py:NAME, called as score(question, answer, expected).",
    )
    main: str | None = Field(
        default=None, description="The figure that decides; default: the first metric, for pretrain the loss."
    )
    max_new_tokens: int = Field(
        default=128, ge=1, description="An answer longer than this counts as not ended."
    )
    forgetting: bool = Field(
        default=True, description="Measure how far the adapter moves general answers, and their loss."
    )
    parent: bool = Field(default=False, description="Let the parent sit the same exam; a gate may need it.")
    max_rows: int = Field(
        default=200, ge=1, description="Held-out rows to generate for, from the top of the file."
    )
    batch_rows: int = Field(default=16, ge=1, description="Rows generated for at once.")

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in METRICS:
                raise ValueError(
                    f"no metric {name!r}{nearest(name, METRICS)}; there are: {', '.join(METRICS)}"
                )
        return names

    @field_validator("patterns")
    @classmethod
    def _are_patterns(cls, patterns: dict[str, str]) -> dict[str, str]:
        for name, pattern in patterns.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name} = {pattern!r} is no regular expression: {error}") from None
        return patterns

    @model_validator(mode="after")
    def _own_names_are_new(self) -> Self:
        taken = {*METRICS, *FIGURES}
        for name in self.own():
            if name in taken or not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} cannot name a metric: use a new word of a-z, 0-9 and _")
            taken.add(name)
        return self

    def own(self) -> Iterator[str]:
        """Names of the metrics that the config itself defines."""
        yield from (*self.patterns, *self.schemas, *self.functions)

    @property
    def scored(self) -> tuple[str, ...]:
        """Every metric that answers are held against."""
        return (*self.metrics, *self.own())
