"""What a run writes into its version's manifest: enough to tell what it was made of, and no time or path."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from hotshoe.train.config import TrainConfig
from hotshoe.train.lesson import Learned
from hotshoe.train.prepare import Prepared, template_digest
from hotshoe.train.tokens import Tokenizer

LIBRARIES = ("hotshoe", "peft", "torch", "transformers", "trl")


def training_facts(
    config: TrainConfig, data: Prepared[Any], learned: Learned, tokenizer: Tokenizer
) -> dict[str, Any]:
    """The manifest's `training`: config, data digests and counts, template digest, libraries, outcome."""
    return {
        "recipe": config.recipe,
        "config": config.facts(),
        "data": data.facts(),
        "chat_template_sha256": template_digest(tokenizer),
        "eos_token": tokenizer.eos_token,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "dtype": learned.dtype,
        "steps": learned.steps,
        "learning_rate": learned.learning_rate,
        "trainable_parameters": learned.trainable_parameters,
        "first_loss": learned.losses[0],
        "last_loss": learned.losses[-1],
    }


def metrics(base: Mapping[str, float], adapter: Mapping[str, float]) -> dict[str, float]:
    """The manifest's `metrics`: the adapter's held-out figures by name, the base's as `base.NAME`."""
    return dict(adapter) | {f"base.{name}": value for name, value in base.items()}
