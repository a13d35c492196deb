"""The `full` recipe: the base's own linear layers are trained, then their change is extracted as LoRA.

The change of each weight matrix is cut to the adapter's rank by its singular values, which is the best
that this rank can do (Eckart and Young, 1936). Only the layers that the adapter may touch are trained:
what changes elsewhere no adapter could carry. The loss at other ranks is measured, so that the cost of
the rank is known; and the whole change sits the held-out exam beside its extract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from hotshoe.train import sft
from hotshoe.train.evaluate import mean_loss
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.model import Model

ADAPTER = "default"


def learn(lesson: Lesson) -> Learned:
    """Train the weights below the lesson's adapter, extract their change into it, and put them back."""
    layers = _adapted_layers(lesson.model)
    before = {name: layer.base_layer.weight.detach().clone() for name, layer in layers.items()}
    with _training_the_base(lesson.model, layers):
        learned = sft.learn(lesson)
        trained = _trainable(layers)
    lesson.progress.stage("Ask the whole change")
    with lesson.model.disable_adapter():
        lesson.examine("full")
    lesson.progress.stage("Extract")
    parts = {}
    for name, layer in layers.items():
        parts[name] = _singular(layer.base_layer.weight.detach() - before[name])
    extraction = _losses_by_rank(lesson, layers, before, parts)
    for name, layer in layers.items():
        layer.base_layer.weight.data.copy_(before[name])
        _fill(layer, parts[name])
    return replace(learned, trainable_parameters=trained, extraction=extraction)


@contextmanager
def _training_the_base(model: Model, layers: Mapping[str, Any]) -> Iterator[None]:
    """Let gradients go to the layers' own weights, past the adapter, for the block."""
    adapter = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.base_model.disable_adapter_layers()
    for parameter in adapter:
        parameter.requires_grad_(False)
    for layer in layers.values():
        layer.base_layer.weight.requires_grad_(True)
    try:
        yield
    finally:
        for layer in layers.values():
            layer.base_layer.weight.requires_grad_(False)
            layer.base_layer.weight.grad = None
        model.base_model.enable_adapter_layers()
        for parameter in adapter:
            parameter.requires_grad_(True)


def _adapted_layers(model: Model) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "base_layer")}


def _trainable(layers: Mapping[str, Any]) -> int:
    return sum(layer.base_layer.weight.numel() for layer in layers.values())


def _singular(change: Any) -> tuple[Any, Any, Any]:
    import torch

    left, values, right = torch.linalg.svd(change.float(), full_matrices=False)
    return left, values, right


def _fill(layer: Any, parts: tuple[Any, Any, Any]) -> None:
    """Write the largest part of a change into a layer's adapter, each factor with half of its size."""
    left, values, right = parts
    rank = layer.r[ADAPTER]
    root = (values[:rank] / layer.scaling[ADAPTER]).sqrt()
    layer.lora_A[ADAPTER].weight.data.copy_(root[:, None] * right[:rank])
    layer.lora_B[ADAPTER].weight.data.copy_(left[:, :rank] * root)


def _losses_by_rank(
    lesson: Lesson, layers: Mapping[str, Any], before: Mapping[str, Any], parts: Mapping[str, Any]
) -> dict[str, float]:
    """Held-out loss with the whole change (`full`), without it (`base`), and with each rank's part of it."""
    heldout = lesson.data.heldout or lesson.data.train
    rows = heldout.sequences[: lesson.config.evaluation.max_rows]
    pad, size = lesson.tokenizer.pad_token_id, lesson.config.evaluation.batch_rows
    asked = lesson.config.lora.rank
    losses = {}
    with lesson.model.disable_adapter():
        lesson.model.eval()
        losses["full"] = mean_loss(lesson.model, rows, pad=pad, batch_rows=size)
        for rank in sorted({max(asked // 4, 1), max(asked // 2, 1), asked, asked * 2, asked * 4}):
            for name, layer in layers.items():
                left, values, right = parts[name]
                part = (left[:, :rank] * values[:rank]) @ right[:rank]
                layer.base_layer.weight.data.copy_(before[name] + part)
            losses[str(rank)] = mean_loss(lesson.model, rows, pad=pad, batch_rows=size)
        for name, layer in layers.items():
            layer.base_layer.weight.data.copy_(before[name])
        losses["base"] = mean_loss(lesson.model, rows, pad=pad, batch_rows=size)
    return losses
