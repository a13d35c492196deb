"""The `kto` recipe: answers with thumbs up become likelier, others less so (trl's KTOTrainer).

Source: Ethayarajh et al., KTO: Model Alignment as Prospect Theoretic Optimization (2024). No pairs are
needed. The reference is the adapter as the run found it: the parent where there is one, else the base.
"""

from __future__ import annotations

import random
from typing import Any

from hotshoe.adapter.errors import InvalidConfig, InvalidData
from hotshoe.train.data import Verdict
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.tokens import Encoded, Tokenizer, answered, encode_example, split_answer
from hotshoe.train.trainer import common_arguments, drop_reference, run_trainer


def encode(row: Verdict, tokenizer: Tokenizer) -> tuple[Encoded]:
    """The question with its answer."""
    return (encode_example(answered(row, row.answer), tokenizer),)


def learn(lesson: Lesson) -> Learned:
    """Train the adapter on the lesson's model in place."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    class Encoded(KTOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            # trl tokenizes question and answer together, which no server does; ours are encoded already.
            return dataset

    up, down = _weights(lesson)
    trainer = Encoded(
        model=lesson.model,
        args=KTOConfig(
            **common_arguments(lesson),
            beta=lesson.config.preference.beta,
            desirable_weight=up,
            undesirable_weight=down,
            train_sampling_strategy="sequential",
            max_length=None,
            remove_unused_columns=False,
        ),
        train_dataset=Dataset.from_list(_rows(lesson)),
        processing_class=lesson.tokenizer,
    )
    learned = run_trainer(trainer, lesson)
    drop_reference(lesson.model)
    return learned


def _weights(lesson: Lesson) -> tuple[float, float]:
    """Weights of thumbs up and down that balance their counts (the paper's eq. 8)."""
    if lesson.config.training.batch_rows < 2:
        raise InvalidConfig("training.batch_rows must be 2 or more for kto: it compares the rows of a batch")
    up = sum(row.good for row in lesson.data.train.rows)
    down = len(lesson.data.train.rows) - up
    if not up or not down:
        raise InvalidData("kto needs rows of both labels; with thumbs up alone use sft")
    return (down / up, 1.0) if up < down else (1.0, up / down)


def _rows(lesson: Lesson) -> list[dict[str, Any]]:
    """Rows in a drawn but fixed order; each batch is also seen with its answers moved on by one, from
    which the trainer estimates how far the policy has gone."""
    part, size = lesson.data.train, lesson.batch.rows
    order = list(range(len(part.rows)))
    random.Random(lesson.config.training.seed).shuffle(order)
    rows = []
    for number in order:
        prompt, answer = split_answer(part.encoded[number][0])
        label = part.rows[number].good
        rows.append({"prompt_ids": prompt, "completion_ids": answer, "label": label, "row": number})
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        moved = [batch[-1], *batch[:-1]]
        for row, other in zip(batch, moved, strict=True):
            row["KL_completion_ids"] = other["completion_ids"]
    return rows
