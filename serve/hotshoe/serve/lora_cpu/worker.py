"""What our engine may ask of vLLM's worker, beyond what vLLM's own interface has."""

from __future__ import annotations

import signal
from typing import Any

from vllm.lora.request import LoRARequest

from hotshoe.serve.lora_cpu.loading import SlicingWorkerManager


class WorkerExtension:
    """Mixed into vLLM's worker class; its methods are called by name over `collective_rpc`."""

    model_runner: Any

    def hotshoe_leave_interrupts_to_server(self) -> None:
        """Ignore Ctrl-C, which a terminal sends to every process: the server drains before it ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def hotshoe_hello(self) -> None:
        """Answer, to show that the engine comes round to it."""

    def hotshoe_operators(self) -> list[str]:
        """The classes of LoRA operators in use."""
        wrappers = self.model_runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()
        return sorted({type(wrapper).__name__ for wrapper in wrappers})

    def hotshoe_prepare(self, name: str, adapter_id: int, path: str) -> bool:
        """Go on loading an adapter for a moment; True once adding it takes no time (or can't be helped)."""
        manager = self.model_runner.lora_manager
        if not isinstance(manager, SlicingWorkerManager):
            return True
        return manager.prepare(LoRARequest(name, adapter_id, path))
