"""The `merge` recipe: several versions combined into one adapter, without training (peft).

svd   the sum of the updates, cut back to `lora.rank`; keeps several tasks best at one rank
cat   the sum, exactly, at the sum of the ranks
ties  the updates' largest parts where their signs agree (Yadav et al., TIES-Merging, 2023)
dare  random parts of the updates, scaled up (Yu et al., DARE, 2024)
"""

from __future__ import annotations

from collections.abc import Sequence

from hotshoe.adapter.errors import Unservable
from hotshoe.train.config import TrainConfig
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.model import Model, trainable_parameters
from hotshoe.train.parent import Parent, building
from hotshoe.train.sections import MAX_RANK

_PEFT_NAMES = {"svd": "svd", "cat": "cat", "ties": "ties_svd", "dare": "dare_linear_svd"}
ADAPTER = "default"


def begin(model: Model, config: TrainConfig, sources: Sequence[Parent]) -> Model:
    """The base with the sources' adapters combined into one; raise Unservable where its rank is too large,
    or PEFT cannot build one of them."""
    from peft import PeftModel
    from transformers import set_seed

    merge = config.merge
    if merge.method == "cat" and (rank := sum(source.manifest.rank for source in sources)) > MAX_RANK:
        raise Unservable(f"cat gives rank {rank}, over {MAX_RANK}, the most that vLLM serves: use svd")
    set_seed(config.training.seed)
    names = [f"source{number}" for number in range(len(sources))]
    with building(sources[0]):
        merged = PeftModel.from_pretrained(model, sources[0].folder, adapter_name=names[0])
    for name, source in zip(names[1:], sources[1:], strict=True):
        with building(source):
            merged.load_adapter(source.folder, adapter_name=name)
    first = merged.peft_config[names[0]]
    # The merged adapter takes its config from the first one. Its scale is 1 by alpha = rank, which rsLoRA
    # would make sqrt(rank); and it must reach every layer that any of the sources reaches.
    first.use_rslora = False
    first.layers_to_transform = _layers(merged, names)
    merged.add_weighted_adapter(
        names,
        list(merge.weights or [1.0] * len(names)),
        ADAPTER,
        combination_type=_PEFT_NAMES[merge.method],
        svd_rank=None if merge.method == "cat" else config.lora.rank,
        svd_full_matrices=False,
        density=merge.density if merge.method in ("ties", "dare") else None,
    )
    merged.set_adapter(ADAPTER)
    for name in names:
        merged.delete_adapter(name)
    return merged


def learn(lesson: Lesson) -> Learned:
    """Nothing: all is done when the adapter begins."""
    return Learned(
        steps=0,
        losses=(),
        learning_rate=0.0,
        trainable_parameters=trainable_parameters(lesson.model),
        dtype=lesson.machine.dtype,
    )


def _layers(model: Model, names: Sequence[str]) -> list[int] | None:
    """Layers that any of the adapters touches; None is all of them."""
    chosen = [model.peft_config[name].layers_to_transform for name in names]
    if any(layers is None for layers in chosen):
        return None
    return sorted({layer for layers in chosen for layer in layers})
