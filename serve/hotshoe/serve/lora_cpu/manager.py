"""vLLM's manager of loaded adapters, with what it takes in silence refused, and slots that are references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from vllm.lora.layers.column_parallel_linear import MergedColumnParallelLinearWithLoRA
from vllm.lora.model_manager import LRUCacheLoRAModelManager

from hotshoe.serve.lora_cpu.weights import LayerSlots, LayerWeights, pack

_SHOWN = 3  # Names in a message at most.


class PackingManager(LRUCacheLoRAModelManager):  # type: ignore[misc]  # vLLM ships no types that mypy follows
    """Checks and packs an adapter once, when it is loaded; activating it is then free."""

    @property
    def lora_slots(self) -> int:
        # vLLM sets the full size of every slot aside when it wraps the layers; ours need none of that.
        return 1 if self._wrapping else int(super().lora_slots)

    _wrapping = False

    def _create_lora_modules(self) -> None:
        self._wrapping = True
        super()._create_lora_modules()
        self._wrapping = False
        self._ours = [name for name, layer in self.modules.items() if _is_ours(layer)]
        for name, layer in self.modules.items():
            if name in self._ours:
                LayerSlots.take_over(layer, self.lora_slots)
            else:
                layer.create_lora_weights(self.lora_slots, self.lora_config, self.model.config)

    def prepare(self, lora: Any) -> Iterator[None]:
        """Check, merge and pack an adapter piece by piece; raise ValueError if it can't be right."""
        if not self._is_moe:
            for name, weights in lora.loras.items():
                _check_tensors(name, weights)
                yield
        self._validate_moe_lora_format(lora)
        self._create_merged_loras_inplace(lora)
        self._check_layers(lora)
        for name in self._ours:
            self._pack(lora, name)
            yield
        lora.is_prepared = True

    def _add_adapter(self, lora: Any) -> None:
        # vLLM's own registers first and finds wrong shapes when a request needs them.
        if not getattr(lora, "is_prepared", False):
            for _ in self.prepare(lora):
                pass
        self._registered_adapters[lora.id] = lora

    def _check_layers(self, lora: Any) -> None:
        unknown = sorted(set(lora.loras) - set(self.modules))
        if unknown and not self._is_moe and not self.is_pooling_model:
            raise ValueError(
                f"it has weights for layers that the base lacks or the engine does not serve: {_few(unknown)}"
            )

    def _pack(self, lora: Any, name: str) -> None:
        weights = self._get_lora_layer_weights(lora, name)
        if weights is None or isinstance(weights.lora_a, LayerWeights):
            return
        layer = self.modules[name]
        a, b = weights.lora_a, weights.lora_b
        if not isinstance(a, list):
            a, b = [a], [b]
        elif len(b) != layer.n_slices:
            a, b = layer.expand_packed_lora(a, b)
        if layer.tp_size > 1:
            a, b = layer.slice_lora_a(a), layer.slice_lora_b(b)
        for each_a, each_b, outputs in zip(a, b, layer.output_slices, strict=True):
            if each_a is not None and (each_a.shape[1], each_b.shape[0]) != (layer.input_size, outputs):
                raise ValueError(
                    f"{name} is made for {each_a.shape[1]} inputs and {each_b.shape[0]} outputs; "
                    f"the base has {layer.input_size} and {outputs}"
                )
        weights.lora_a, weights.lora_b = pack(a, b), None


def _is_ours(layer: Any) -> bool:
    """Whether a layer keeps its adapters the usual way; the others stay as vLLM has them."""
    return isinstance(layer, BaseLinearLayerWithLoRA) and type(layer).set_lora in (
        BaseLinearLayerWithLoRA.set_lora,
        MergedColumnParallelLinearWithLoRA.set_lora,
    )


def _check_tensors(name: str, weights: Any) -> None:
    """Refuse what vLLM loads in silence and then answers wrongly with."""
    a, b = weights.lora_a, weights.lora_b
    if isinstance(a, list | LayerWeights):
        return  # Packed before: vLLM's own zero adapter, cloned.
    if a is None or b is None:
        raise ValueError(f"{name} has {'no A' if a is None else 'no B'}")
    if not a.shape[0] == b.shape[1] == weights.rank:
        raise ValueError(
            f"{name} has rank {a.shape[0]} in A and {b.shape[1]} in B; its configuration says {weights.rank}"
        )
    # The largest number tells: NaN and infinity are never smaller, and no copy is made.
    if not (a.abs().max().isfinite() and (b.abs().max() * weights.scaling).isfinite()):
        raise ValueError(f"{name} holds NaN or infinite numbers")


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
