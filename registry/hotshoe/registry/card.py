"""The model card of a version: what the Hub shows people, and what its search finds. Made from the manifest.

The block at its head is YAML; every value in it is written as JSON, which is YAML too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hotshoe.adapter.manifest import Manifest
from hotshoe.registry.tags import tags_of

CARD_PATH = "README.md"
HOTSHOE_TAG = "hotshoe"

_HUB_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LONGEST_VALUE = 200


def render_card(manifest: Manifest, number: int) -> bytes:
    """The README of version `number`: metadata, how to use it, results, training facts."""
    targets = ", ".join(f"`{_cell(target)}`" for target in manifest.targets) or "no named modules"
    base = _cell(manifest.base.repo)
    parts = [
        f"---\n{_head(manifest)}\n---\n",
        f"# {manifest.adapter} v{number}\n",
        f"A LoRA adapter of rank {manifest.rank} (alpha {manifest.alpha:g}) for `{base}`, on {targets}.\n",
        _usage(manifest),
        _table(
            "Results", ("metric", "value"), ((k, f"{v:.6g}") for k, v in sorted(manifest.metrics.items()))
        ),
        _table("Training", ("fact", "value"), _facts(manifest.training)),
        _table("Identity", ("what", "value"), _identity(manifest)),
    ]
    return "\n".join(part for part in parts if part).encode()


def _head(manifest: Manifest) -> str:
    data: dict[str, Any] = {}
    if _HUB_REPO.fullmatch(manifest.base.repo):
        # Only the name of a repo links the adapter to its base; a folder's or a package's would be refused.
        data |= {"base_model": manifest.base.repo, "base_model_relation": "adapter"}
    data |= {"library_name": "peft", "tags": _tags(manifest)}
    if manifest.metrics:
        data["model-index"] = [_model_index(manifest)]
    return "\n".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.items())


def _tags(manifest: Manifest) -> list[str]:
    return list(dict.fromkeys([HOTSHOE_TAG, "lora", "peft", *tags_of(manifest)]))


def _model_index(manifest: Manifest) -> dict[str, Any]:
    """The metrics in the form that the Hub reads evaluation results from."""
    metrics = [{"name": name, "type": name, "value": value} for name, value in manifest.metrics.items()]
    result = {
        "task": {"type": "text-generation"},
        "dataset": {"name": "held-out rows", "type": "held-out"},
        "metrics": metrics,
    }
    return {"name": manifest.adapter, "results": [result]}


def _usage(manifest: Manifest) -> str:
    return (
        "```python\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM\n\n"
        f"base = AutoModelForCausalLM.from_pretrained({json.dumps(manifest.base.repo)})\n"
        f'model = PeftModel.from_pretrained(base, "{manifest.adapter}", revision="prod")\n'
        "```\n\n"
        "The branches of this repo are aliases such as `prod`, its tags the versions `v1`, `v2` and so on.\n"
    )


def _facts(training: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Nested facts, one row each: `config.learning_rate`."""
    for key, value in sorted(training.items()):
        if isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", text) for inner, text in _facts(value))
        else:
            yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _identity(manifest: Manifest) -> Iterable[tuple[str, str]]:
    yield "base", str(manifest.base)
    if manifest.parent:
        yield "trained from", manifest.parent
    yield "manifest sha256", manifest.sha256


def _table(title: str, heads: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows]
    if not lines:
        return ""
    return "\n".join([f"## {title}\n", f"| {heads[0]} | {heads[1]} |", "| --- | --- |", *lines, ""])


def _cell(text: str) -> str:
    """Text that stays on its line and inside its cell, whatever a trainer wrote into it."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
