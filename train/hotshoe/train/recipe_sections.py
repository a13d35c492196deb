"""The tables of a training config that single recipes read: preferences, merges, rewards."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from hotshoe.adapter.reference import AdapterRef
from hotshoe.train.fields import Function, Place, Section


class PreferenceConfig(Section):
    """How `dpo` and `kto` weigh a preference."""

    beta: float = Field(
        default=0.1, gt=0, le=10, description="Leash to the reference: low lets the policy go far from it."
    )


class MergeConfig(Section):
    """What `merge` combines, and how."""

    sources: tuple[str, ...] = Field(default=(), description="Versions to combine, org/name[@selector] each.")
    weights: tuple[float, ...] | None = Field(default=None, description="A factor for each; default: 1.")
    method: Literal["svd", "cat", "ties", "dare"] = Field(
        default="svd", description="svd: cut to lora.rank; cat: exact, at the sum of the ranks; ties; dare."
    )
    density: float = Field(default=0.5, gt=0, le=1, description="Share of an update that ties and dare keep.")

    @field_validator("sources")
    @classmethod
    def _well_formed(cls, refs: tuple[str, ...]) -> tuple[str, ...]:
        for ref in refs:
            AdapterRef.parse(ref)
        return refs

    @model_validator(mode="after")
    def _a_weight_for_each(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.sources):
            raise ValueError(f"{len(self.weights)} weights for {len(self.sources)} sources")
        return self


class RewardConfig(Section):
    """What `rlhf` rewards: exactly one of metric, function and rankings."""

    metric: str | None = Field(default=None, description="A metric against the row's output.")
    function: Function | None = Field(
        default=None, description="FILE.py:NAME, called as score(question, answer, expected) -> number."
    )
    rankings: Place | None = Field(
        default=None, description="Rows of ranked answers, from which a reward model is trained first."
    )
    steps: int = Field(default=100, ge=1, description="Optimizer steps of the reward model.")
    answers: int = Field(default=4, ge=2, le=64, description="Answers drawn for each question.")
    temperature: float = Field(default=1.0, gt=0, le=2, description="How widely they are drawn.")
    beta: float = Field(
        default=0.04,
        ge=0,
        le=10,
        description="Leash to where the run began; 0 is none.",
    )
