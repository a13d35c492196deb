"""How many rows go through the model at once: as many as the config says, or fewer where memory is short."""

from __future__ import annotations

import json
import os
import resource
from dataclasses import asdict, dataclass
from pathlib import Path

from hotshoe.train.estimate import LIBRARY_BYTES, Load, Shape, memory_bytes
from hotshoe.train.machine import Machine
from hotshoe.train.processes import processes
from hotshoe.train.sections import TrainingConfig

SPARE = 0.85
"""Share of its room that a run may plan with: estimates err, and others want some, too."""

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Batch:
    """A step's rows: `rows` at once, `passes` times."""

    rows: int
    passes: int


def choose_batch(training: TrainingConfig, shape: Shape, load: Load, *, room: int) -> Batch:
    """The configured batch, or the same rows a step in more passes, of which each finds room.

    room: bytes that the run may take in all. What is learned depends on the rows of a step alone, so the
    choice changes no result beyond rounding. Loads that cannot be split stay as they were configured.
    """
    asked = Batch(training.batch_rows, training.accumulate_batches)
    if not load.splits or processes().count > 1:
        # Several processes would have to agree; each sees another share of the memory.
        return asked
    step = asked.rows * asked.passes
    sizes = [rows for rows in range(asked.rows, 0, -1) if step % rows == 0]
    for rows in sizes:
        if memory_bytes(shape, batch_tokens=load.heaviest(rows)) <= room * SPARE:
            return Batch(rows, step // rows)
    return Batch(1, step)


def settle_batch(chosen: Batch, folder: Path) -> Batch:
    """The batch that a run in `folder` began with, where it still finds room; else `chosen`, from now on.

    A run that goes on then computes the very numbers that it would have computed.
    """
    told = folder / "batch.json"
    try:
        begun = Batch(**json.loads(told.read_bytes()))
    except (OSError, ValueError, TypeError):
        begun = chosen
    settled = begun if begun.rows <= chosen.rows else chosen
    told.write_text(json.dumps(asdict(settled)))
    return settled


def room_bytes(machine: Machine) -> int:
    """Memory that a run in this process may take in all, its libraries among it: on a GPU, or on the CPU what
    the process holds already and what every limit leaves."""
    if machine.device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0]) + LIBRARY_BYTES
    return _held()[1] + max(min(_available(), _left_in_group(), _left_of_limit()), 0)


def _held() -> tuple[int, int]:
    """Address space and memory of this process, in bytes (proc(5), statm)."""
    total, resident = Path("/proc/self/statm").read_text().split()[:2]
    return int(total) * resource.getpagesize(), int(resident) * resource.getpagesize()


def _available() -> int:
    """What the kernel could hand out without swapping (proc(5), MemAvailable)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kib) * 1024
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_group() -> int:
    """What a container's limit leaves (cgroup v2); its page cache gives way when memory is wanted."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        cached = next(
            int(line.split()[1])
            for line in (_CGROUP / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        )
    except (OSError, ValueError, StopIteration):
        return _UNLIMITED
    return _UNLIMITED if limit == "max" else int(limit) - used + cached


def _left_of_limit() -> int:
    """What `ulimit -v` leaves of the address space."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return _UNLIMITED
    return limit - _held()[0]


_UNLIMITED = 1 << 62
