"""Every recipe by name: what its rows are, and how it learns from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotshoe.train import dpo, forms, full, kto, merge, pretrain, rlhf, sft
from hotshoe.train.config import TrainConfig
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.model import Model, begin_adapter
from hotshoe.train.parent import Parent
from hotshoe.train.prepare import Kind
from hotshoe.train.tokens import encode_example

EXAMPLES = Kind(forms.example, lambda row, tokenizer: (encode_example(row, tokenizer),))


@dataclass(frozen=True, slots=True)
class Recipe:
    """begin: the base with the adapter that is to learn. learn: trains the lesson's model in place."""

    rows: Kind[Any]
    learn: Callable[[Lesson], Learned]
    begin: Callable[[Model, TrainConfig, Sequence[Parent]], Model] = begin_adapter


RECIPES: Mapping[str, Recipe] = {
    "sft": Recipe(EXAMPLES, sft.learn),
    "pretrain": Recipe(Kind(forms.document, pretrain.encode, splits=True), pretrain.learn),
    "full": Recipe(EXAMPLES, full.learn),
    "merge": Recipe(EXAMPLES, merge.learn, merge.begin),
    "dpo": Recipe(Kind(forms.preference, dpo.encode), dpo.learn),
    "kto": Recipe(Kind(forms.verdict, kto.encode), kto.learn),
    "rlhf": Recipe(Kind(forms.question, rlhf.encode), rlhf.learn),
}
