"""What a recipe's rows weigh: how many tokens go through the model for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotshoe.train import pretrain
from hotshoe.train.config import TrainConfig
from hotshoe.train.estimate import Load
from hotshoe.train.prepare import Prepared
from hotshoe.train.tokens import split_answer

_SPLITTING = frozenset({"sft", "pretrain", "full"})
_LOOKS = {"dpo": 1, "kto": 3, "rlhf": 1}


def load_of(config: TrainConfig, data: Prepared[Any], *, context: int) -> Load:
    """The load of a run. context: the most tokens that the base takes."""
    return Load(
        tuple(_row_tokens(config, data, context)),
        splits=config.recipe in _SPLITTING,
        ragged=config.recipe != "rlhf",
        looks=_LOOKS.get(config.recipe, 0),
    )


def _row_tokens(config: TrainConfig, data: Prepared[Any], context: int) -> Sequence[int]:
    train = data.train
    if config.recipe == "pretrain":
        blocks = pretrain.blocks(train.sequences, config.data.max_tokens, context)
        return [sum(len(piece.ids) for piece in block) for block in blocks]
    if config.recipe == "dpo":
        # trl pads both answers of a pair to the longer one.
        return [2 * max(len(answer.ids) for answer in pair) for pair in train.encoded]
    if config.recipe == "rlhf":
        asked = (len(split_answer(row)[0]) for row in train.sequences)
        return [(ids + config.evaluation.max_new_tokens) * config.reward.answers for ids in asked]
    return [len(row.ids) for row in train.sequences]
