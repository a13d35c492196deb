"""What our engine may ask of vLLM's worker, beyond what vLLM's own interface has."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from typing import Any

from vllm.lora.request import LoRARequest

from hotshoe.serve.lora_cpu.loading import SlicingWorkerManager

log = logging.getLogger(__name__)


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

    def hotshoe_add(self, wanted: list[tuple[str, int, str]], idle: bool) -> list[bool | str | None]:
        """Go on loading adapters for a moment, each a name, an id and a path, one after the other.

        For each that it got to: as `add_lora` if that is done, None if it goes on, or what is wrong with it.
        idle: nobody waits for the engine's next step.
        """
        manager = self.model_runner.lora_manager
        in_slices = isinstance(manager, SlicingWorkerManager)
        # vLLM's own manager knows no slices: one adapter, the whole of it.
        until = manager.slice_ends(idle=idle) if in_slices else 0.0
        answers: list[bool | str | None] = []
        for name, adapter_id, path in wanted:
            request = LoRARequest(name, adapter_id, path)
            try:
                ready = not in_slices or manager.prepare(request, until)
                answers.append(self.add_lora(request) if ready else None)
            except Exception as error:
                log.warning("%s cannot be loaded", name, exc_info=True)
                answers.append(_wrong(error))
            if time.monotonic() >= until:
                break
        return answers


def _wrong(error: Exception) -> str:
    """What to say of it. A ValueError is written for people; of others the kind is half of what they say."""
    text = str(error)
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
