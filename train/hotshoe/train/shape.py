"""The shape of a run's model, counted on modules without weights."""

from __future__ import annotations

from collections.abc import Sequence

from hotshoe.registry.base import BaseModel
from hotshoe.train.config import TrainConfig
from hotshoe.train.estimate import Shape
from hotshoe.train.machine import Machine
from hotshoe.train.model import add_adapter, empty_base, lowest_trained_layer, trainable_parameters
from hotshoe.train.parent import Parent


def shape_of(
    config: TrainConfig, base: BaseModel, parents: Sequence[Parent], machine: Machine
) -> tuple[Shape, tuple[str, ...]]:
    """Parameter counts from a model on torch's meta device, and the modules that get an update.

    Raises InvalidConfig for a target or a layer that the base lacks, Unservable for a parent that fits none.
    """
    model = empty_base(base.folder)
    total = sum(parameter.numel() for parameter in model.parameters())
    like = parents[0] if config.parent else None
    # However it begins, the shape is the same, and here are no weights to begin from.
    plain = config.lora.model_copy(update={"init": "default"})
    adapted = add_adapter(model, plain, seed=config.training.seed, like=like)
    if config.lora.init == "mica":
        # MiCA (peft 0.21) leaves B as it begins.
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.requires_grad_(False)
    layers = int(model.config.num_hidden_layers)
    trained = adapter = trainable_parameters(adapted)
    if config.recipe == "full":
        adapters = (module for module in adapted.modules() if hasattr(module, "base_layer"))
        trained = sum(module.base_layer.weight.numel() for module in adapters)
    shape = Shape(
        parameters=total,
        trainable=0 if config.recipe == "merge" else trained,
        layers=layers,
        hidden=int(model.config.hidden_size),
        intermediate=int(getattr(model.config, "intermediate_size", 4 * model.config.hidden_size)),
        depth=(layers - lowest_trained_layer(adapted)) / layers,
        bytes_per_weight=2 if machine.bf16 else 4,
        recompute=config.training.recompute,
        adapter=adapter if config.recipe in ("full", "merge") else 0,
    )
    named = adapted.peft_config["default"].target_modules
    return shape, (named,) if isinstance(named, str) else tuple(sorted(named))
