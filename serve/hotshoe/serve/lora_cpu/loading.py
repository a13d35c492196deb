"""Loading an adapter in slices, between the engine's steps.

Everybody's streams wait while the engine's thread does something else, so it never does much of it at
once. Another thread of the same process is no way out: it takes the interpreter from the engine's for
milliseconds at a time, hundreds of times a step.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from vllm.lora.lora_model import LoRAModel
from vllm.lora.lora_weights import LoRALayerWeights
from vllm.lora.peft_helper import PEFTHelper
from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

from hotshoe.adapter.errors import HotshoeError
from hotshoe.serve.lora_cpu.manager import PackingManager

SLICE_SECONDS = 0.004
"""Between two steps, for as many adapters as it is enough for."""

SLICE_SHARE = 0.05
"""Or so much of what passes between two slices, which is a step at least: a long one can spare more."""

LONGEST_SLICE_SECONDS = 0.015

IDLE_SLICE_SECONDS = 0.05
"""While nobody's stream waits; a request that comes in the meantime does."""


def slice_seconds(step: float, *, idle: bool) -> float:
    """How long a slice may take. step: seconds since the one before it, 0 where there was none."""
    return IDLE_SLICE_SECONDS if idle else min(max(SLICE_SECONDS, SLICE_SHARE * step), LONGEST_SLICE_SECONDS)


class SlicingWorkerManager(LRUCacheWorkerLoRAManager):  # type: ignore[misc]  # vLLM ships no types
    """vLLM's worker-side manager of adapters, with loads that can be done little by little."""

    _manager_cls = PackingManager

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._under_way: dict[int, Iterator[None]] = {}
        self._prepared: dict[int, Any] = {}
        self._sliced_at = 0.0

    def slice_ends(self, *, idle: bool) -> float:
        """When a slice that begins now is over (monotonic seconds). idle: nobody's stream waits."""
        # Only a load that is under way tells how long a step takes.
        step = time.monotonic() - self._sliced_at if self._under_way else 0.0
        return time.monotonic() + slice_seconds(step, idle=idle)

    def prepare(self, request: LoRARequest, until: float) -> bool:
        """Go on loading an adapter; True once adding it takes no time, False where the slice ended before.

        until: when that is (monotonic seconds). Raises what vLLM's own loading raises, and ValueError for
        what that would take in silence.
        """
        adapter_id = request.lora_int_id
        if adapter_id in self._prepared or self._has(adapter_id):
            return True
        work = self._under_way.pop(adapter_id, None) or self._load_in_pieces(request)
        try:
            for _ in work:
                if time.monotonic() >= until:
                    self._under_way[adapter_id] = work
                    return False
        finally:
            self._sliced_at = time.monotonic()
        return True

    def add_adapter(self, lora_request: LoRARequest) -> bool:
        # In every step, for every adapter of it, and vLLM looks for each in a copy of all that is loaded.
        if lora_request.load_inplace or not self._has(lora_request.lora_int_id):
            return bool(super().add_adapter(lora_request))
        self._adapter_manager.activate_adapter(lora_request.lora_int_id)
        return True

    def list_adapters(self) -> set[int]:
        # For each adapter that is loaded vLLM asks, and copies the whole cache twice.
        return set(self._adapter_manager._registered_adapters)

    def remove_adapter(self, adapter_id: int) -> bool:
        self._under_way.pop(adapter_id, None)
        self._prepared.pop(adapter_id, None)
        return bool(super().remove_adapter(adapter_id))

    def _has(self, adapter_id: int) -> bool:
        return self._adapter_manager.get_adapter(adapter_id) is not None

    def _load_in_pieces(self, request: LoRARequest) -> Iterator[None]:
        lora = yield from self._read_in_pieces(request)
        if lora is None:
            lora = super()._load_adapter(request)  # One slice, however long.
            yield
            yield from self._adapter_manager.prepare(lora)
        self._prepared[request.lora_int_id] = lora

    def _read_in_pieces(self, request: LoRARequest) -> Generator[None, None, Any]:
        """The adapter, read by us; None where it is not of the plain kind, or wrong: vLLM says how."""
        # Not before the worker is made: vLLM looks through all modules then, and stumbles over numba's.
        from hotshoe.serve.lora_cpu.reading import AdapterFile

        try:
            helper = PEFTHelper.from_local_dir(request.lora_path, self.max_position_embeddings)
            helper.validate_legal(self.lora_config)
            file = AdapterFile.open(Path(request.lora_path), helper.get_rank_and_scaling)
        except (OSError, ValueError, TypeError, HotshoeError):
            return None
        if file is None:
            return None
        with file:
            yield
            layout = self._adapter_manager.layout(file.modules)
            if layout is None:
                return None
            loras = {}
            for name, slices in layout.items():
                modules = [file.modules[each] if each else None for each in slices]
                for index, module in enumerate(modules):
                    if module is not None:
                        self._adapter_manager.check_shapes(name, index, module)
                loras[name] = LoRALayerWeights(name, helper.r, 1, file.read(modules), None, scaling=1)
                yield
        lora = LoRAModel(request.lora_int_id, helper.r, loras)
        lora.is_prepared = True
        return lora

    def _load_adapter(self, lora_request: LoRARequest) -> Any:
        prepared = self._prepared.pop(lora_request.lora_int_id, None)
        return prepared or super()._load_adapter(lora_request)
