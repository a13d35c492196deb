"""The `sft` recipe: supervised fine-tuning, the loss on the answers only (trl's SFTTrainer)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotshoe.train.config import TrainingConfig
from hotshoe.train.machine import Machine
from hotshoe.train.model import Model
from hotshoe.train.progress import Progress
from hotshoe.train.tokens import Encoded, Tokenizer
from hotshoe.train.trainer import Learned, common_arguments, run_trainer


def train_sft(
    model: Model,
    tokenizer: Tokenizer,
    rows: Sequence[Encoded],
    training: TrainingConfig,
    *,
    machine: Machine,
    scratch: Path,
    progress: Progress,
) -> Learned:
    """Train the adapter on `model` in place; the base's weights do not change.

    scratch: a folder for the trainer's own files, which nobody needs afterwards.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    arguments: dict[str, Any] = common_arguments(model, training, machine=machine, scratch=scratch)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **arguments,
            # Our rows carry their own labels and fit: trl must neither relabel nor cut them.
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
        ),
        train_dataset=Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in rows]),
        processing_class=tokenizer,
    )
    return run_trainer(trainer, progress)
