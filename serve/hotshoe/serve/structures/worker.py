"""What our engine may ask of vLLM's worker, structures included: they share its process.

Imports nothing of vLLM's structured output: that loads libraries which vLLM's worker must find unloaded.
"""

from __future__ import annotations

from hotshoe.serve.lora_cpu import worker
from hotshoe.serve.structures.processes import Processes
from hotshoe.serve.structures.wanted import Wanted

_looked_after: list[Processes] = []


def look_after(processes: Processes) -> None:
    """These are the ones of this process's engine from now on."""
    _looked_after[:] = [processes]


class WorkerExtension(worker.WorkerExtension):
    """Mixed into vLLM's worker class; its methods are called by name over `collective_rpc`."""

    def hotshoe_hello(self) -> None:
        """Answer, to show that the engine comes round to it; and see to structures that nobody waits for."""
        for each in _looked_after:
            each.look()

    def hotshoe_structure(self, key: str, *told: str) -> str | None:
        """See `Processes.verdict`; told: the rest of what is wanted, if anything."""
        return _looked_after[0].verdict(key, Wanted(key, *told) if told else None)
