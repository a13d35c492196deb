"""What a run writes into its version's manifest: enough to tell what it was made of, and no time or path."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hotshoe.adapter.manifest import Base
from hotshoe.train.config import TrainConfig
from hotshoe.train.lesson import Learned
from hotshoe.train.parent import Parent
from hotshoe.train.prepare import Prepared, template_digest
from hotshoe.train.sources import read_source
from hotshoe.train.tokens import Tokenizer

LIBRARIES = ("hotshoe", "peft", "torch", "transformers", "trl")


def training_facts(
    config: TrainConfig, data: Prepared[Any], learned: Learned, tokenizer: Tokenizer
) -> dict[str, Any]:
    """The manifest's `training`: config, data digests and counts, chat template, libraries, outcome."""
    return {
        "recipe": config.recipe,
        "config": config.facts(),
        "data": data.facts(),
        "chat_template": tokenizer.chat_template,
        "chat_template_sha256": template_digest(tokenizer),
        "eos_token": tokenizer.eos_token,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "dtype": learned.dtype,
        "batch": asdict(learned.batch) if learned.batch else None,
        "steps": learned.steps,
        "kept_step": learned.kept_step,
        "learning_rate": learned.learning_rate,
        "trainable_parameters": learned.trainable_parameters,
        "first_loss": learned.losses[0] if learned.losses else None,
        "last_loss": learned.losses[-1] if learned.losses else None,
        "extraction": dict(learned.extraction),
        "first_reward": learned.rewards[0] if learned.rewards else None,
        "last_reward": learned.rewards[-1] if learned.rewards else None,
    }


def inputs_digest(
    config: TrainConfig, base: Base, digests: Mapping[str, str], parents: Sequence[Parent]
) -> str:
    """sha256 of all that decides a run: config with its files, base, rows, parents. The same digest, the
    same adapter.

    digests: sha256 of each source of rows, by its key in the config.
    """
    inputs = {
        "config": config.facts(),
        "base": base.digest,
        "data": dict(digests),
        "files": {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in config.files().items()},
        "rankings": read_source(config.reward.rankings).sha256 if config.reward.rankings else None,
        "parents": [parent.version.manifest_sha256 for parent in parents],
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def metrics(figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The manifest's `metrics`: the adapter's figures by name, those of others as `base.NAME`."""
    named = dict(figures.get("adapter", {}))
    for who in ("base", "parent", "full"):
        named |= {f"{who}.{name}": value for name, value in figures.get(who, {}).items()}
    return named


def figures(named: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The other way: a manifest's `metrics` as figures of `adapter`, `base` and the others."""
    found: dict[str, dict[str, float]] = {}
    for name, value in named.items():
        who, dot, figure = name.rpartition(".")
        found.setdefault(who if dot else "adapter", {})[figure] = value
    return found
