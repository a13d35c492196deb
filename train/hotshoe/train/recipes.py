"""Every recipe by name: what its rows are, and how it learns from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hotshoe.train import dpo, forms, kto, pretrain, sft
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.prepare import Kind
from hotshoe.train.tokens import encode_example

EXAMPLES = Kind(forms.example, lambda row, tokenizer: (encode_example(row, tokenizer),))


@dataclass(frozen=True, slots=True)
class Recipe:
    """learn: trains the lesson's model in place."""

    rows: Kind[Any]
    learn: Callable[[Lesson], Learned]


RECIPES: Mapping[str, Recipe] = {
    "sft": Recipe(EXAMPLES, sft.learn),
    "pretrain": Recipe(Kind(forms.document, pretrain.encode, splits=True), pretrain.learn),
    "dpo": Recipe(Kind(forms.preference, dpo.encode), dpo.learn),
    "kto": Recipe(Kind(forms.verdict, kto.encode), kto.learn),
}
