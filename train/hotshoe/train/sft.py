"""The `sft` recipe: supervised fine-tuning, the loss on the answers only (trl's SFTTrainer)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotshoe.train.joined import join, joined_trainer, keeps_apart
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.trainer import common_arguments, run_trainer


def learn(lesson: Lesson) -> Learned:
    """Train the adapter on the lesson's model in place; the base's weights do not change."""
    rows = [
        {"input_ids": row.ids, "labels": row.labels, "row": number}
        for number, row in enumerate(lesson.data.train.sequences)
    ]
    return learn_rows(lesson, rows)


def learn_rows(
    lesson: Lesson, rows: Sequence[dict[str, Any]], places: Sequence[str] | None = None
) -> Learned:
    """Train on rows of input_ids and labels, which fit and are neither relabelled nor cut."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    apart = keeps_apart(lesson.model)
    trainer = (joined_trainer() if apart else SFTTrainer)(
        model=lesson.model,
        args=SFTConfig(
            **common_arguments(lesson),
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
            remove_unused_columns=False,
        ),
        data_collator=join if apart else None,
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=lesson.tokenizer,
    )
    return run_trainer(trainer, lesson, places=places)
