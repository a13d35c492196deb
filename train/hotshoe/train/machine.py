"""What this machine trains fastest with: device, dtype, threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotshoe.train.processes import processes

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


def detect(*, threads: int | None = None, exact: bool = False) -> Machine:
    """Look at the machine, and set torch's thread count to what was asked or a trial finds fastest.

    exact: compute in float32 even where bfloat16 is faster.
    """
    import torch

    cuda = torch.cuda.is_available()
    if cuda and processes().count > 1:
        torch.cuda.set_device(processes().local_rank)
    bf16 = torch.cuda.is_bf16_supported() if cuda else _bf16_pays_on_cpu()
    cores = max(len(os.sched_getaffinity(0)) // processes().here, 1)
    found = threads or _fastest_threads(cores)
    torch.set_num_threads(found)
    return Machine("cuda" if cuda else "cpu", "bfloat16" if bf16 and not exact else "float32", found)


def _bf16_pays_on_cpu() -> bool:
    """Are this CPU's bfloat16 products clearly faster than its float32 ones?

    Without instructions for it bfloat16 is emulated, 14 times slower a step on AVX2. With AVX-512-BF16
    it still took twice as long as float32 where we measured it; AMX is another matter. So: try.
    """
    import torch

    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in info.splitlines() if line.startswith("flags")), "")
    if _BF16_FLAGS.isdisjoint(flags.split()):
        return False
    torch.set_num_threads(1)
    return _product_seconds(torch.bfloat16) * 1.3 < _product_seconds(torch.float32)


def _fastest_threads(cores: int) -> int:
    """All cores or half of them or one, whichever multiplies fastest now.

    On cores shared with others, two threads that wait for each other are slower than one.
    """
    import torch

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        return _product_seconds(torch.float32, clock=time.perf_counter)

    return min(sorted({1, max(cores // 2, 1), cores}, reverse=True), key=seconds)


def _product_seconds(dtype: Any, clock: Callable[[], float] = time.process_time) -> float:
    """What 40 matrix products of a training step's size take."""
    import torch

    left, right = torch.rand(384, 576, dtype=dtype), torch.rand(576, 1536, dtype=dtype)
    torch.mm(left, right)
    begun = clock()
    for _ in range(40):
        torch.mm(left, right)
    return clock() - begun
