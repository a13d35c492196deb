"""What our engine may ask of vLLM's worker, beyond what vLLM's own interface has."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import Any

from vllm.lora.request import LoRARequest

from hotshoe.serve.lora_cpu.loading import SlicingWorkerManager


class WorkerExtension:
    """Mixed into vLLM's worker class; its methods are called by name over `collective_rpc`."""

    model_runner: Any

    def hotshoe_follow_server(self) -> None:
        """Live and die with the server's process.

        Ctrl-C, which a terminal sends to every process, is left to the server: it drains before it ends.
        A server that is killed takes this process with it, which would wait for requests for ever.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with_parent, name="end with the server", daemon=True).start()

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


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
