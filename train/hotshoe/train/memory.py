"""Running out of memory, on a GPU or a CPU, told with the knob to turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hotshoe.adapter.errors import Refused


@contextmanager
def memory_explained(advice: str) -> Iterator[None]:
    """Turn running out of memory inside the block into Refused: what took it, and what to do about it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        raise Refused(f"out of memory {advice}") from error


def _is_memory(error: Exception) -> bool:
    import torch

    # torch's allocator for CPUs raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
