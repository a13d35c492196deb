"""Where the `rlhf` recipe's rewards come from: a metric, a Python function, a model learned from rankings."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from hotshoe.adapter.errors import InvalidConfig, InvalidData
from hotshoe.train import forms
from hotshoe.train.data import Example, Ranking, Turn, raise_for_faults, read_rows
from hotshoe.train.lesson import Lesson
from hotshoe.train.memory import memory_explained
from hotshoe.train.scores import Score, function_score, score_named
from hotshoe.train.tokens import answered, encode_example
from hotshoe.train.trainer import common_arguments, watch


def score_for(lesson: Lesson) -> Score:
    """The reward that the lesson's config names; a learned one is learned here.

    Raises InvalidConfig where a function cannot be loaded or does not give finite numbers.
    """
    reward = lesson.config.reward
    if reward.metric is not None:
        return score_named(reward.metric, lesson.config.evaluation)
    if reward.function is not None:
        return function_score(reward.function)
    return _learn(lesson)


def _learn(lesson: Lesson) -> Score:
    """A reward model on the same base, tuned by LoRA on every pair of the rankings (trl's RewardTrainer)."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    reward, tokenizer = lesson.config.reward, lesson.tokenizer
    rankings = _rankings(lesson)
    lesson.progress.stage("Train the reward")
    base = lesson.model.get_base_model()
    model = AutoModelForSequenceClassification.from_pretrained(
        base.config._name_or_path, num_labels=1, dtype=lesson.machine.torch_dtype()
    ).to(lesson.machine.device)
    model.config.pad_token_id = tokenizer.pad_token_id
    arguments = common_arguments(lesson) | {
        "output_dir": str(lesson.scratch / "reward"),
        "max_steps": reward.steps,
        "save_strategy": "no",
        "learning_rate": 10 * common_arguments(lesson)["learning_rate"],
    }
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**arguments, max_length=None, remove_unused_columns=False),
        train_dataset=Dataset.from_list(
            [pair for number, row in enumerate(rankings) for pair in _pairs(number, row, lesson)]
        ),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules="all-linear", modules_to_save=["score"]
        ),
    )
    watch(trainer, lesson, [row.where for row in rankings])
    with memory_explained(
        "while the reward is trained: set training.recompute = true, then lower training.batch_rows"
    ):
        trainer.train()
    return _scorer(trainer.model.eval(), lesson)


def _scorer(model: Any, lesson: Lesson) -> Score:
    templated = bool(lesson.tokenizer.chat_template)

    def score(question: str, answer: str, expected: str) -> float:
        import torch

        row = Example("", (Turn("user", question), Turn("assistant", answer or " ")), templated)
        ids = torch.tensor([encode_example(row, lesson.tokenizer).ids], device=model.device)
        with torch.inference_mode():
            return float(model(input_ids=ids).logits[0, 0])

    return score


def _rankings(lesson: Lesson) -> tuple[Ranking, ...]:
    place = lesson.config.reward.rankings
    if place is None:
        raise InvalidConfig("rlhf needs one of reward.metric, reward.function or reward.rankings")
    rows = read_rows(place, forms.ranking)
    raise_for_faults(rows.faults, total=rows.total)
    if not rows.good:
        raise InvalidData("reward.rankings has no rows")
    return rows.good


def _pairs(number: int, row: Ranking, lesson: Lesson) -> list[dict[str, Any]]:
    """Every pair of a ranking, the better answer first."""
    encoded = [encode_example(answered(row, answer), lesson.tokenizer).ids for answer in row.ranked]
    return [
        {"chosen_ids": better, "rejected_ids": worse, "row": number}
        for better, worse in combinations(encoded, 2)
    ]
