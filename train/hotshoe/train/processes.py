"""Several processes that train together: torchrun and accelerate launch say in the environment who is who."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Processes:
    """rank: this process's number of `count`, from 0; local_rank: among the `here` on this machine. sharded:
    the base is spread over all of them (FSDP), not copied into each (DDP)."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    here: int = 1
    sharded: bool = False

    @property
    def first(self) -> bool:
        """The first one asks, writes and tells; the others only train."""
        return self.rank == 0


def processes() -> Processes:
    """Who this process is, by the variables that torchrun and accelerate launch set."""
    environment = os.environ
    count = int(environment.get("WORLD_SIZE", "1"))
    return Processes(
        rank=int(environment.get("RANK", "0")),
        count=count,
        local_rank=int(environment.get("LOCAL_RANK", "0")),
        here=int(environment.get("LOCAL_WORLD_SIZE", str(count))),
        sharded=environment.get("ACCELERATE_USE_FSDP", "false").lower() == "true",
    )


def check_sharding(config: TrainConfig, together: Processes) -> None:
    """Raise InvalidConfig for what a base that is spread over processes cannot do."""
    if not together.sharded:
        return
    if os.environ.get("FSDP_VERSION") != "2":
        raise InvalidConfig("FSDP: only its second version is known here; say --fsdp_version 2")
    if config.recipe not in ("sft", "pretrain") or config.quantize:
        raise InvalidConfig(
            "FSDP: only sft and pretrain train on a sharded base, and none in few bits; use DDP"
        )
    if config.lora.moves_base:
        raise InvalidConfig(
            f"FSDP: lora.init {config.lora.init} changes the base's weights; use default, or DDP"
        )
    if config.training.check_every_steps or config.training.checkpoint_every_steps:
        raise InvalidConfig(
            "FSDP: leave training.check_every_steps and checkpoint_every_steps out, or use DDP"
        )


def gathered(trainer: Any, together: Processes) -> dict[str, Any] | None:
    """The adapter of a model that a trainer spread over processes, whole, in the first one.

    Every process calls it; None where nothing was to be spread. Raises InvalidConfig where accelerate did
    not spread what was.
    """
    if not together.sharded:
        return None
    if not trainer.is_fsdp_enabled:
        raise InvalidConfig("FSDP: accelerate shards on GPUs only, and this run has none; use DDP (torchrun)")
    whole = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return {name: tensor for name, tensor in whole.items() if ".lora_" in name}


def disband(together: Processes) -> None:
    """End the group that the trainer formed of the processes; every one calls it when its share is done."""
    if together.count > 1:
        from torch import distributed

        # What only merges forms none.
        if distributed.is_initialized():
            distributed.destroy_process_group()


def leave() -> NoReturn:
    """End this process with code 0, without what Python does at the end.

    Threads of torch outlive training, and one that lets go of a tensor while the interpreter is taken down
    aborts the process: seen once in hundreds of runs. Which threads is not settled (pytorch/pytorch issue
    190489, pull request 179291). The first process ends as any does: it has a result to return.
    """
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # Nobody reads any more, or it is closed.
                stream.flush()
    os._exit(0)
