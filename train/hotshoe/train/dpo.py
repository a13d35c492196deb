"""The `dpo` recipe: better answers become likelier than worse ones (trl's DPOTrainer).

Source: Rafailov et al., Direct Preference Optimization (2023). The reference that the policy is held to
is the adapter as the run found it: the parent where there is one, else the base.
"""

from __future__ import annotations

from typing import Any

from hotshoe.train.data import Preference
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.tokens import Encoded, Tokenizer, answered, encode_example, split_answer
from hotshoe.train.trainer import common_arguments, drop_reference, run_trainer


def encode(row: Preference, tokenizer: Tokenizer) -> tuple[Encoded, Encoded]:
    """The question with the chosen answer, and with the rejected one."""
    chosen, rejected = (encode_example(answered(row, text), tokenizer) for text in (row.chosen, row.rejected))
    return chosen, rejected


def learn(lesson: Lesson) -> Learned:
    """Train the adapter on the lesson's model in place."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Encoded(DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            # trl tokenizes question and answer together, which no server does; ours are encoded already.
            return dataset

    trainer = Encoded(
        model=lesson.model,
        args=DPOConfig(
            **common_arguments(lesson),
            beta=lesson.config.preference.beta,
            max_length=None,
            remove_unused_columns=False,
        ),
        train_dataset=Dataset.from_list(
            [_row(number, *pair) for number, pair in enumerate(lesson.data.train.encoded)]
        ),
        processing_class=lesson.tokenizer,
    )
    learned = run_trainer(trainer, lesson)
    drop_reference(lesson.model)
    return learned


def _row(number: int, chosen: Encoded, rejected: Encoded) -> dict[str, Any]:
    prompt, better = split_answer(chosen)
    _, worse = split_answer(rejected)
    return {"prompt_ids": prompt, "chosen_ids": better, "rejected_ids": worse, "row": number}
