"""Several processes that train together: torchrun and accelerate launch say in the environment who is who."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Processes:
    """rank: this process's number, from 0. count: of all processes; here: of those on this machine."""

    rank: int = 0
    count: int = 1
    here: int = 1

    @property
    def first(self) -> bool:
        """The first one asks, writes and tells; the others only train."""
        return self.rank == 0


def processes() -> Processes:
    """Who this process is, by the variables that torchrun sets."""
    environment = os.environ
    count = int(environment.get("WORLD_SIZE", "1"))
    return Processes(
        rank=int(environment.get("RANK", "0")),
        count=count,
        here=int(environment.get("LOCAL_WORLD_SIZE", str(count))),
    )
