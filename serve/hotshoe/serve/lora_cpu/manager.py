"""vLLM's manager of loaded adapters, with what it takes in silence refused, and slots that are references."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vllm.lora.layers.base_linear import BaseLinearLayerWithLoRA
from vllm.lora.layers.column_parallel_linear import MergedColumnParallelLinearWithLoRA
from vllm.lora.model_manager import LRUCacheLoRAModelManager
from vllm.model_executor.models.utils import WeightsMapper

from hotshoe.serve.lora_cpu.weights import LayerSlots, LayerWeights, pack

if TYPE_CHECKING:
    from hotshoe.serve.lora_cpu.reading import Module

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

    def _deactivate_adapter(self, lora_id: int) -> None:
        # vLLM leaves the weights in the slot; here a slot is all that keeps an unloaded adapter in memory.
        if lora_id in self.lora_index_to_id:
            slot = self.lora_index_to_id.index(lora_id)
            for name in self._ours:
                self.modules[name].reset_lora(slot)
        super()._deactivate_adapter(lora_id)

    def layout(self, modules: Collection[str]) -> dict[str, list[str | None]] | None:
        """The layers that an adapter of these modules fills, and which module each output slice is.

        None where that is not all there is to it: then `prepare` has to judge what vLLM makes of them.
        """
        if self._is_moe or self.is_pooling_model or self._maps_names():
            return None
        found: dict[str, list[str | None]] = {}
        for name in self._ours:
            slices = [each if each in modules else None for each in self.packed_modules.get(name, [name])]
            layer = self.modules[name]
            if any(slices):
                if layer.tp_size > 1 or len(slices) != layer.n_slices:
                    return None
                found[name] = slices
        fitting = sum(each is not None for slices in found.values() for each in slices)
        return found if found and fitting == len(modules) else None

    def check_shapes(self, name: str, index: int, module: Module) -> None:
        """Raise ValueError unless a module fits that slice of a layer."""
        _check_ranks(module.name, module.a.shape, module.b.shape, module.rank)
        self._check_widths(name, index, module.a.shape, module.b.shape)

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
        for index, (each_a, each_b) in enumerate(zip(a, b, strict=True)):
            if each_a is not None:
                self._check_widths(name, index, each_a.shape, each_b.shape)
        weights.lora_a, weights.lora_b = pack(a, b), None

    def _check_widths(self, name: str, index: int, a: Sequence[int], b: Sequence[int]) -> None:
        layer = self.modules[name]
        if (a[1], b[0]) != (layer.input_size, layer.output_slices[index]):
            raise ValueError(
                f"{name} is made for {a[1]} inputs and {b[0]} outputs; "
                f"the base has {layer.input_size} and {layer.output_slices[index]}"
            )

    def _maps_names(self) -> bool:
        """Whether this model's modules are not called what an adapter calls them."""
        mapper = getattr(self.model, "hf_to_vllm_mapper", None)
        renames = mapper is not None and mapper.get_rename_mapper() != WeightsMapper()
        return renames or bool(getattr(self.model, "lora_skip_prefixes", None))


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
    _check_ranks(name, a.shape, b.shape, weights.rank)
    # The largest number tells: NaN and infinity are never smaller, and no copy is made.
    if not (a.abs().max().isfinite() and (b.abs().max() * weights.scaling).isfinite()):
        raise ValueError(f"{name} holds NaN or infinite numbers")


def _check_ranks(name: str, a: Sequence[int], b: Sequence[int], rank: int) -> None:
    if not a[0] == b[1] == rank:
        raise ValueError(f"{name} has rank {a[0]} in A and {b[1]} in B; its configuration says {rank}")


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
