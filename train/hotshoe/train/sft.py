"""The `sft` recipe: supervised fine-tuning, the loss on the answers only (trl's SFTTrainer)."""

from __future__ import annotations

from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.trainer import common_arguments, run_trainer


def learn(lesson: Lesson) -> Learned:
    """Train the adapter on the lesson's model in place; the base's weights do not change."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {"input_ids": row.ids, "labels": row.labels, "row": number}
        for number, row in enumerate(lesson.data.train.sequences)
    ]
    trainer = SFTTrainer(
        model=lesson.model,
        args=SFTConfig(
            **common_arguments(lesson),
            # Our rows carry their own labels and fit: trl must neither relabel nor cut them.
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
            remove_unused_columns=False,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=lesson.tokenizer,
    )
    return run_trainer(trainer, lesson)
