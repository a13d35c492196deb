"""How the vLLM engine is set up, and the process environment that says so to its core process."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.adapter.manifest import Base
from hotshoe.serve.config import RANKS, SILENCE_SECONDS
from hotshoe.serve.following import SERVER
from hotshoe.serve.lora_cpu import is_stock

STEP_TOKENS = 512


@dataclass(frozen=True, slots=True)
class VllmConfig:
    """One engine: which base, and what it may hold.

    folder, base: the base model on disk and who it is. slots: adapters active in one step at most.
    max_rank: the largest LoRA rank served; a slot's memory grows with it. cached_adapters: adapters
    kept in memory beside the slots; one beyond that is read from disk again when it is used.
    kv_cache_bytes: memory for the keys and values of running and cached prompts.
    context_tokens: prompt and output together at most; None is the base's own limit, or what fits into
    the KV cache if that is less.
    step_tokens: tokens computed in one step at most, so the longest pause that one prompt puts on
    everybody's stream. silence_seconds: a core process that does not come round to a question for longer
    is killed. threads: of the model's arithmetic.
    """

    folder: Path
    base: Base
    slots: int = 8
    max_rank: int = 16
    cached_adapters: int = 64
    kv_cache_bytes: int = 1 << 30
    context_tokens: int | None = None
    max_sequences: int = 64
    step_tokens: int = STEP_TOKENS
    silence_seconds: float = SILENCE_SECONDS
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("slots", "max_rank", "cached_adapters", "kv_cache_bytes", "max_sequences", "threads"):
            if getattr(self, name) < 1:
                raise InvalidConfig(f"{name} is {getattr(self, name)}: give 1 or more")
        if self.context_tokens is not None and self.context_tokens < 2:
            raise InvalidConfig(f"context_tokens is {self.context_tokens}: give 2 or more")
        if self.max_rank > RANKS[-1]:
            raise InvalidConfig(f"max_rank is {self.max_rank}: vLLM serves at most rank {RANKS[-1]}")
        if self.cached_adapters < self.slots:
            raise InvalidConfig(
                f"cached_adapters is {self.cached_adapters}, less than the {self.slots} slots: raise it"
            )
        if self.step_tokens < self.max_sequences:
            raise InvalidConfig(
                f"step_tokens is {self.step_tokens}, less than max_sequences {self.max_sequences}: "
                "each running request needs one token in a step"
            )

    @property
    def slot_rank(self) -> int:
        """The smallest rank that vLLM knows and that holds `max_rank`."""
        return next(rank for rank in RANKS if rank >= self.max_rank)


_environ_lock = threading.Lock()


@contextlib.contextmanager
def environment(threads: int, sockets: Path | None = None) -> Iterator[None]:
    """Set what vLLM reads from the environment while the engine starts; restore it afterwards.

    The core process inherits it. One start at a time: the environment belongs to the whole process.
    threads: as in VllmConfig. sockets: a folder for those between server and core.
    """
    with _environ_lock:
        variables = _variables(threads)
        if sockets is not None:
            variables["VLLM_RPC_BASE_PATH"] = str(sockets)
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _variables(threads: int) -> dict[str, str]:
    allowed = os.environ.get("VLLM_PLUGINS")
    return {
        # The worker runs inside the core process: one process less to start (13 CPU-seconds of imports).
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # A spawned core dies with its parent; a forked one outlives it.
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        SERVER: str(os.getpid()),
        "OMP_NUM_THREADS": str(threads),
        # vLLM's own binding takes whole cores; the server and the engine share them.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_COMPUTE_NANS_IN_LOGITS": "0" if is_stock() else "1",  # See overflow.py.
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Said by every core process, and nobody can act on it: a deprecated name that vLLM touches, how
        # memory is bound, that there is no Triton.
        "PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), *_NOT_OURS])),
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
        "TORCH_LOGS": os.environ.get("TORCH_LOGS", "-torch._library.triton"),
        **_preloaded(),
        # A list of allowed plugins must not switch off the one that keeps tenants apart.
        **({} if allowed is None else {"VLLM_PLUGINS": f"{allowed},{PLUGIN}"}),
    }


def _preloaded() -> Mapping[str, str]:
    """What vLLM has its core on a CPU load first, torch's OpenMP, said before vLLM could: see prespawn.py."""
    before = os.environ.get("LD_PRELOAD", "")
    torch = importlib.util.find_spec("torch")
    if torch is None or "+cpu" not in importlib.metadata.version("torch") or "libgomp" in before:
        return {}
    folders = torch.submodule_search_locations or []
    found = [file for folder in folders for file in Path(folder, "lib").glob("libgomp*.so*")]
    return {"LD_PRELOAD": ":".join(filter(None, [before, *map(str, found[:1])]))} if found else {}


_NOT_OURS = (
    "ignore::FutureWarning:vllm.triton_utils.dispatcher",
    # A core that is stopped leaves its semaphore to the tracker, which prespawn.py starts.
    "ignore:resource_tracker:UserWarning",
)

PLUGIN = "hotshoe_lora_cpu"
"""The name of `hotshoe.serve.lora_cpu` among vLLM's plugins."""
