"""What our engine may ask of vLLM's worker, beyond what vLLM's own interface has."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from vllm.lora.request import LoRARequest

from hotshoe.serve.lora_cpu.loading import SlicingWorkerManager


class WorkerExtension:
    """Mixed into vLLM's worker class; its methods are called by name over `collective_rpc`."""

    model_runner: Any
    add_lora: Callable[[LoRARequest], bool]

    def hotshoe_leave_interrupts_to_server(self) -> None:
        """Ignore Ctrl-C, which a terminal sends to every process: the server drains before it ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def hotshoe_hello(self) -> None:
        """Answer, to show that the engine comes round to it."""

    def hotshoe_operators(self) -> list[str]:
        """The classes of LoRA operators in use."""
        wrappers = self.model_runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()
        return sorted({type(wrapper).__name__ for wrapper in wrappers})

    def hotshoe_add(self, name: str, adapter_id: int, path: str, idle: bool) -> bool | None:
        """Go on loading an adapter for a moment; then as `add_lora`, None before.

        idle: nobody waits for the engine's next step.
        """
        request = LoRARequest(name, adapter_id, path)
        manager = self.model_runner.lora_manager
        if isinstance(manager, SlicingWorkerManager) and not manager.prepare(request, idle=idle):
            return None
        return self.add_lora(request)
