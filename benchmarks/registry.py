"""The registry in a folder: publish and pull beside a raw copy, resolve, promote, list many adapters."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.harness import Arm, Group, Row, Sample, Series, Spread, at_most, in_turns
from hotshoe.adapter.manifest import MANIFEST_PATH, Base, FileEntry, Manifest
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.registry import BaseModel, Registry, open_registry
from hotshoe.registry.values import Publication

ROUNDS = 9
NAME = AdapterName("acme", "support")
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
CHUNK_BYTES = 1 << 18
ADAPTERS = 10_000
"""How many a listing lists."""

# The shapes of SmolLM2-135M; rank 16 in all linear layers makes 19.6 MB in float32.
HIDDEN, INNER, KEYS, LAYERS, RANK = 576, 1536, 192, 30, 16
TARGETS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, KEYS),
    "self_attn.v_proj": (HIDDEN, KEYS),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (HIDDEN, INNER),
    "mlp.up_proj": (HIDDEN, INNER),
    "mlp.down_proj": (INNER, HIDDEN),
}


async def measure(rounds: int) -> Group:
    """Everything on one disk, in one process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = await _transfers(folder, rounds)
        rows += await _one_adapter(folder, rounds)
        rows += await _many_adapters(folder, rounds)
    return Group(
        name="registry",
        title="The registry in a folder",
        setting="An adapter of 19.6 MB (rank 16 in all linear layers of SmolLM2-135M, float32). A raw copy "
        "reads, hashes (sha256) and writes the same files, and syncs them where publish must.",
        rows=rows,
    )


async def _transfers(folder: Path, rounds: int) -> list[Row]:
    base = _make_base(folder / "base")
    sources = (_make_adapter(folder / f"adapter-{seed}", seed) for seed in itertools.count())
    copies = (folder / f"copy-{number}" for number in itertools.count())
    with open_registry(folder / "registry", cache=folder / "cache") as registry:

        async def publish() -> Sample:
            return _timed(registry.publish, next(sources), NAME, base=base)

        async def pull() -> Sample:
            version = registry.publish(next(sources), NAME, base=base)
            return _timed(registry.fetch, version)

        def copy(*, durable: bool) -> Arm:
            async def run() -> Sample:
                return _timed(_raw_copy, next(sources), next(copies), durable=durable)

            return run

        series = await in_turns(
            {
                "publish": publish,
                "copy, hash, sync": copy(durable=True),
                "pull": pull,
                "copy, hash": copy(durable=False),
            },
            rounds,
        )
    rows = []
    for what, peer in (("publish", "copy, hash, sync"), ("pull", "copy, hash")):
        rows.append(series.row(f"{what} over a raw copy", "ms", "ms", arm=what, peer=peer, goal=at_most(1.3)))
        rows.append(
            series.row(f"{what} over a raw copy, processor time", "cpu ms", "ms", arm=what, peer=peer)
        )
    return rows


async def _one_adapter(folder: Path, rounds: int) -> list[Row]:
    ref, calls = AdapterRef.parse(f"{NAME}@prod"), 20_000
    caches = (folder / f"cache-{number}" for number in itertools.count())
    numbers = itertools.cycle((1, 2))
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        registry.promote(NAME, "prod", 1)

        async def promote() -> Sample:
            return _timed(registry.promote, NAME, "prod", next(numbers))

        async def resolve() -> Sample:
            registry.resolve(ref)
            began = time.perf_counter()
            for _ in range(calls):
                registry.resolve(ref)
            return {"us": (time.perf_counter() - began) / calls * 1e6}

        async def pull_100() -> Sample:
            with (
                open_registry(folder / "registry", cache=next(caches)) as fresh,
                ThreadPoolExecutor(100) as pool,
            ):
                version = fresh.resolve(ref)
                return _timed(lambda: list(pool.map(fresh.fetch, [version] * 100)))

        series = await in_turns({"resolve": resolve, "promote": promote, "pull": pull_100}, rounds)
    return [
        _plain(series, "resolve an alias from memory", "resolve", "us", at_most(20)),
        _plain(series, "promote", "promote", "ms"),
        _plain(series, "100 threads pull one version: one download", "pull", "ms"),
    ]


async def _many_adapters(folder: Path, rounds: int) -> list[Row]:
    _make_large(folder / "large", cache=folder / "cache")

    async def listing() -> Sample:
        with open_registry(folder / "large", cache=folder / "cache") as fresh:
            sample = _timed(fresh.adapters)
            if len(fresh.adapters()) != ADAPTERS:
                raise SystemExit("the listing is not whole")
        return sample

    series = await in_turns({"list": listing}, rounds)
    return [_plain(series, f"list {ADAPTERS:,} adapters with two aliases each", "list", "ms", at_most(1000))]


def _plain(series: Series, what: str, arm: str, unit: str, goal: Any = None) -> Row:
    seen: Spread = series.spread(arm, unit)
    return Row(what, {arm: seen}, unit, seen, unit, goal)


def _timed(action: Callable[..., object], *arguments: Any, **named: Any) -> Sample:
    wall, processor = time.perf_counter(), time.process_time()
    action(*arguments, **named)
    return {
        "ms": (time.perf_counter() - wall) * 1e3,
        "cpu ms": (time.process_time() - processor) * 1e3,
    }


def _raw_copy(source: Path, target: Path, *, durable: bool) -> None:
    """Read, hash and write the files of an adapter once, with nothing around it."""
    target.mkdir()
    # One for all chunks: memory that comes anew for each can take longer than all else.
    chunk = memoryview(bytearray(CHUNK_BYTES))
    for path in source.iterdir():
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as reader, (target / path.name).open("wb", buffering=0) as writer:
            while count := reader.readinto(chunk):
                digest.update(chunk[:count])
                writer.write(chunk[:count])
            if durable:
                os.fsync(writer.fileno())


def _make_large(folder: Path, cache: Path) -> None:
    """A registry with many adapters, made in memory, where syncing 30,000 changes costs nothing."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        with open_registry(Path(name) / "large", cache=cache) as registry:
            _fill(registry)
        shutil.copytree(Path(name) / "large", folder)


def _fill(registry: Registry) -> None:
    """Adapters without weights, straight into the store: their number is what is looked at."""
    now, config = datetime.now(UTC), b"{}"
    entry = FileEntry(CONFIG, len(config), hashlib.sha256(config).hexdigest())
    base, metrics = Base("tiny", "", "0" * 64), {"exact": 0.9}
    for number in range(ADAPTERS):
        name = AdapterName(f"org{number % 100}", f"adapter{number}")
        manifest = Manifest(str(name), base, 16, 32.0, ("q_proj",), (entry,), metrics=metrics)
        files = {MANIFEST_PATH: manifest.canonical(), CONFIG: config}
        publication = Publication("bench", "", now, manifest.sha256)
        registry.store.add_version(name, files, publication, newest=0, number=1)
        for alias in ("prod", "staging"):
            registry.promote(name, alias, 1)


def _make_base(folder: Path) -> BaseModel:
    folder.mkdir()
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return BaseModel(folder, Base("bench", "", "0" * 64))


def _make_adapter(folder: Path, seed: int) -> Path:
    """An adapter of random weights."""
    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "bench",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted(target.partition(".")[2] for target in TARGETS),
        "bias": "none",
    }
    (folder / CONFIG).write_text(json.dumps(config))
    random = np.random.default_rng(seed)
    tensors = {}
    for layer, (target, (inputs, outputs)) in itertools.product(range(LAYERS), TARGETS.items()):
        stem = f"base_model.model.model.layers.{layer}.{target}"
        tensors[f"{stem}.lora_A.weight"] = random.normal(0, 0.02, (RANK, inputs)).astype(np.float32)
        tensors[f"{stem}.lora_B.weight"] = random.normal(0, 0.02, (outputs, RANK)).astype(np.float32)
    save_file(tensors, folder / WEIGHTS)
    return folder
