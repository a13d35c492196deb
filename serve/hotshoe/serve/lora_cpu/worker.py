"""What our engine may ask of vLLM's worker, beyond what vLLM's own interface has."""

from __future__ import annotations

from typing import Any


class WorkerExtension:
    """Mixed into vLLM's worker class; its methods are called by name over `collective_rpc`."""

    model_runner: Any

    def hotshoe_operators(self) -> list[str]:
        """The classes of LoRA operators in use."""
        wrappers = self.model_runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()
        return sorted({type(wrapper).__name__ for wrapper in wrappers})
