"""What a recipe is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hotshoe.train.batch import Batch
from hotshoe.train.checks import Check
from hotshoe.train.config import TrainConfig
from hotshoe.train.machine import Machine
from hotshoe.train.model import Model
from hotshoe.train.prepare import Prepared
from hotshoe.train.progress import Progress
from hotshoe.train.scores import Score
from hotshoe.train.tokens import Tokenizer


@dataclass(frozen=True, slots=True)
class Lesson:
    """A model with an adapter on it, what it is to learn, and where.

    batch: how a step's rows go through the model; recipes take it instead of the config's. scratch: a folder
    for the trainer's own files, checkpoints among them. examine: lets the model as it is now sit the held-out
    exam, under a name of the recipe's choice.
    """

    model: Model
    tokenizer: Tokenizer
    data: Prepared[Any]
    config: TrainConfig
    machine: Machine
    batch: Batch
    scratch: Path
    progress: Progress
    examine: Callable[[str], None] = lambda who: None


@dataclass(frozen=True, slots=True)
class Learned:
    """What a recipe did: its optimizer steps, the training loss of each in order, the peak rate, the name of
    the torch dtype that it computed in, and how the rows of a step went through.

    checks: validation losses on the way; kept_step: the step whose adapter is kept. extraction: what cutting
    a full change down to a rank costs, by rank. rewards: mean reward of each step, and the score they come
    from, where there was one. weights: the adapter's own by name, where the model that learned them is of no
    more use, for it was sharded.
    """

    steps: int
    losses: tuple[float, ...]
    learning_rate: float
    trainable_parameters: int
    dtype: str
    batch: Batch | None = None
    checks: tuple[Check, ...] = ()
    kept_step: int = 0
    extraction: Mapping[str, float] = field(default_factory=dict)
    rewards: tuple[float, ...] = ()
    weights: Mapping[str, Any] | None = field(default=None, repr=False)
    score: Score | None = None
