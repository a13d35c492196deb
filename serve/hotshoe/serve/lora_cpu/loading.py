"""Loading an adapter in slices, between the engine's steps.

Everybody's streams wait while the engine's thread does something else, so it never does much of it at
once. Another thread of the same process is no way out: it takes the interpreter from the engine's for
milliseconds at a time, hundreds of times a step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from vllm.lora.request import LoRARequest
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

from hotshoe.serve.lora_cpu.manager import PackingManager

SLICE_SECONDS = 0.010


class SlicingWorkerManager(LRUCacheWorkerLoRAManager):  # type: ignore[misc]  # vLLM ships no types
    """vLLM's worker-side manager of adapters, with loads that can be done little by little."""

    _manager_cls = PackingManager

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._under_way: dict[int, Iterator[None]] = {}
        self._prepared: dict[int, Any] = {}

    def prepare(self, request: LoRARequest) -> bool:
        """Go on loading an adapter for about SLICE_SECONDS; True once adding it takes no time.

        Reading the file is one slice, however long. Raises what vLLM's own loading raises.
        """
        adapter_id = request.lora_int_id
        if adapter_id in self._prepared or adapter_id in self.list_adapters():
            return True
        work = self._under_way.setdefault(adapter_id, self._load_in_pieces(request))
        until = time.monotonic() + SLICE_SECONDS
        for _ in work:
            if time.monotonic() >= until:
                return False
        del self._under_way[adapter_id]
        return True

    def remove_adapter(self, adapter_id: int) -> bool:
        self._under_way.pop(adapter_id, None)
        self._prepared.pop(adapter_id, None)
        return bool(super().remove_adapter(adapter_id))

    def _load_in_pieces(self, request: LoRARequest) -> Iterator[None]:
        lora = super()._load_adapter(request)
        yield
        yield from self._adapter_manager.prepare(lora)
        self._prepared[request.lora_int_id] = lora

    def _load_adapter(self, lora_request: LoRARequest) -> Any:
        prepared = self._prepared.pop(lora_request.lora_int_id, None)
        return prepared or super()._load_adapter(lora_request)
