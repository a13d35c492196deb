"""What this machine trains fastest with: device, dtype, threads."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run happens. dtype is the name of a torch dtype; threads are CPU threads of one process."""

    device: str
    dtype: str
    threads: int

    @property
    def bf16(self) -> bool:
        return self.dtype == "bfloat16"

    def torch_dtype(self) -> Any:
        import torch

        return getattr(torch, self.dtype)


def detect(*, threads: int | None = None) -> Machine:
    """Look at the machine, and set torch's thread count to what was asked or a trial finds fastest."""
    import torch

    cuda = torch.cuda.is_available()
    bf16 = torch.cuda.is_bf16_supported() if cuda else _cpu_has_bf16()
    # Without these instructions bfloat16 is emulated: 14 times slower a step than float32 on AVX2.
    dtype = "bfloat16" if bf16 else "float32"
    found = threads or _fastest_threads(len(os.sched_getaffinity(0)))
    torch.set_num_threads(found)
    return Machine("cuda" if cuda else "cpu", dtype, found)


def _cpu_has_bf16() -> bool:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in info.splitlines() if line.startswith("flags")), "")
    return not _BF16_FLAGS.isdisjoint(flags.split())


def _fastest_threads(cores: int) -> int:
    """All cores or half of them or one, whichever multiplies fastest now.

    On cores shared with others, two threads that wait for each other are slower than one.
    """
    import torch

    left, right = torch.rand(384, 576), torch.rand(576, 1536)

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        torch.mm(left, right)
        begun = time.perf_counter()
        for _ in range(40):
            torch.mm(left, right)
        return time.perf_counter() - begun

    return min(sorted({1, max(cores // 2, 1), cores}, reverse=True), key=seconds)
