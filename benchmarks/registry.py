"""How fast the registry in a folder is. Prints one JSON object; docs/registry.md has a run of it.

    python benchmarks/registry.py [--adapters 10000] [--repeat 7]

Each figure is the best of the repeats, which is what other work on the machine disturbs least. Publish and pull of a 20 MB adapter are compared with what nobody
can do without: read the bytes, hash them, write them (publish: to stay after a power cut).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from hotshoe.adapter.manifest import MANIFEST_PATH, Base, FileEntry, Manifest
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.registry import BaseModel, Registry, open_registry
from hotshoe.registry.values import Publication

NAME = AdapterName("acme", "support")
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
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--adapters", type=int, default=10_000, help="how many a listing lists")
    parser.add_argument("--repeat", type=int, default=7, help="how often each thing is done")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = transfer(folder, options.repeat)
        figures |= resolving(folder, options.repeat)
        figures |= listing(folder, options.adapters, options.repeat)
    print(json.dumps(figures, indent=2))


def transfer(folder: Path, repeat: int) -> dict[str, float]:
    """Publish and pull beside their raw counterparts, alternating, so that both see the same machine."""
    base = make_base(folder / "base")
    sources = [make_adapter(folder / f"adapter-{i}", i) for i in range(repeat)]
    kept: list[float] = []
    published: list[float] = []
    copied: list[float] = []
    pulled: list[float] = []
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        for i, source in enumerate(sources):
            kept.append(seconds(raw_copy, source, folder / f"kept-{i}", durable=True))
            published.append(seconds(registry.publish, source, NAME, base=base))
            version = registry.resolve(AdapterRef.parse(f"{NAME}@v{i + 1}"))
            copied.append(seconds(raw_copy, source, folder / f"copied-{i}", durable=False))
            pulled.append(seconds(registry.fetch, version))
        held = registry.fetch(version)
        again = min(seconds(registry.fetch, version) for _ in range(repeat))
    return {
        "adapter_mb": round((held / WEIGHTS).stat().st_size / 1e6, 1),
        "publish_ms": ms(published),
        "raw_copy_hash_sync_ms": ms(kept),
        "publish_over_raw": round(min(published) / min(kept), 2),
        "pull_ms": ms(pulled),
        "raw_copy_hash_ms": ms(copied),
        "pull_over_raw": round(min(pulled) / min(copied), 2),
        "pull_again_ms": round(again * 1e3, 2),
    }


def resolving(folder: Path, repeat: int) -> dict[str, float]:
    """Resolve an alias from memory; and a hundred threads that pull one version nobody has yet."""
    calls = 20_000
    with open_registry(folder / "registry", cache=folder / "cache-of-many") as registry:
        registry.promote(NAME, "prod", 1)
        ref = AdapterRef.parse(f"{NAME}@prod")

        def resolve() -> None:
            for _ in range(calls):
                registry.resolve(ref)

        one = min(seconds(resolve) for _ in range(repeat)) / calls
        version = registry.resolve(ref)
        with ThreadPoolExecutor(100) as pool:
            many = seconds(lambda: list(pool.map(registry.fetch, [version] * 100)))
        moves = [seconds(registry.promote, NAME, "prod", 1 + i % 2) for i in range(1, 2 * repeat)]
    return {
        "resolve_us": round(one * 1e6, 1),
        "pull_by_100_threads_ms": round(many * 1e3),
        "promote_ms": ms(moves),
    }


def listing(folder: Path, adapters: int, repeat: int) -> dict[str, float]:
    """List a registry of many adapters with two aliases each, opened anew each time."""
    with open_registry(folder / "large", cache=folder / "cache-of-many") as registry:
        filled = seconds(fill, registry, adapters)

    def list_all() -> None:
        with open_registry(folder / "large", cache=folder / "cache-of-many") as fresh:
            if len(fresh.adapters()) != adapters:
                raise SystemExit("the listing is not whole")

    listed = min(seconds(list_all) for _ in range(repeat))
    with open_registry(folder / "large", cache=folder / "cache-of-many") as registry:
        refs = [AdapterRef.parse(f"org{i % 100}/adapter{i}@prod") for i in range(0, adapters, 10)]
        cold = seconds(lambda: [registry.resolve(ref) for ref in refs]) / len(refs)
        warm = seconds(lambda: [registry.resolve(ref) for ref in refs]) / len(refs)
    return {
        "listed_adapters": adapters,
        "list_ms": round(listed * 1e3),
        "resolve_first_us": round(cold * 1e6, 1),
        "resolve_again_us": round(warm * 1e6, 1),
        "fill_us_an_adapter": round(filled / adapters * 1e6),
    }


def fill(registry: Registry, adapters: int) -> None:
    """Adapters without weights, straight into the store: their number is what is looked at."""
    now = datetime.now(UTC)
    config = b"{}"
    entry = FileEntry(CONFIG, len(config), hashlib.sha256(config).hexdigest())
    for i in range(adapters):
        name = AdapterName(f"org{i % 100}", f"adapter{i}")
        manifest = Manifest(
            str(name), Base("tiny", "", "0" * 64), 16, 32.0, ("q_proj",), (entry,), metrics={"exact": 0.9}
        )
        files = {MANIFEST_PATH: manifest.canonical(), CONFIG: config}
        publication = Publication("bench", "", now, manifest.sha256)
        registry.store.add_version(name, files, publication, newest=0, number=1)
        registry.promote(name, "prod", 1)
        registry.promote(name, "staging", 1)


def make_base(folder: Path) -> BaseModel:
    folder.mkdir()
    config = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 1024,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return BaseModel(folder, Base("bench", "", "0" * 64))


def make_adapter(folder: Path, seed: int) -> Path:
    """About 20 MB, with random weights."""
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
    for layer in range(LAYERS):
        for target, (inputs, outputs) in TARGETS.items():
            stem = f"base_model.model.model.layers.{layer}.{target}"
            tensors[f"{stem}.lora_A.weight"] = random.normal(0, 0.02, (RANK, inputs)).astype(np.float32)
            tensors[f"{stem}.lora_B.weight"] = random.normal(0, 0.02, (outputs, RANK)).astype(np.float32)
    save_file(tensors, folder / WEIGHTS)
    return folder


def raw_copy(source: Path, target: Path, *, durable: bool) -> None:
    """Read, hash and write the files of an adapter once, with nothing around it."""
    target.mkdir()
    for path in source.iterdir():
        digest = hashlib.sha256()
        with path.open("rb") as reader, (target / path.name).open("wb") as writer:
            while chunk := reader.read(1 << 20):
                digest.update(chunk)
                writer.write(chunk)
            if durable:
                writer.flush()
                os.fsync(writer.fileno())


def seconds(action: Callable[..., object], *arguments: Any, **named: Any) -> float:
    start = time.perf_counter()
    action(*arguments, **named)
    return time.perf_counter() - start


def ms(times: list[float]) -> float:
    return round(min(times) * 1e3, 1)


if __name__ == "__main__":
    main()
