"""Writing a run's result: a plain PEFT folder that serves, with the manifest's draft beside it.

    adapter_config.json  adapter_model.safetensors  .hotshoe/{manifest.json,report.html,report.png}

The folder is written beside its place and renamed into it, so a killed run leaves no half result.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hotshoe.adapter.manifest import MANIFEST_PATH, Base, FileEntry, Manifest
from hotshoe.registry.base import BaseModel
from hotshoe.registry.inspect import CONFIG_FILE, inspect, version_files
from hotshoe.train.model import Model


def write_package(
    model: Model,
    out: Path,
    *,
    adapter: str,
    base: BaseModel,
    training: Mapping[str, Any],
    metrics: Mapping[str, float],
    parent: str | None,
    describe: Callable[[Manifest], Mapping[str, bytes]],
) -> Manifest:
    """Save the adapter of a peft model as a folder `out`, which is empty or not there yet.

    describe: what people are told of it, as files by their path in the folder; it is given the manifest as
    it is without them. Returns the manifest that stands in the folder. Raises Unservable for what the
    engine would refuse or answer wrongly with, weights that are not finite among it.
    """
    folder = out.with_name(f".{out.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        # Embeddings are the base's own, frozen; peft would copy them into the file when in doubt.
        model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        _settle_config(folder / CONFIG_FILE, base.base)
        inspection = inspect(folder, base.config)
        inspection.raise_for_errors()
        manifest = Manifest(
            adapter=adapter,
            base=base.base,
            rank=inspection.rank,
            alpha=inspection.alpha,
            targets=inspection.targets,
            files=_entries(folder),
            training=training,
            metrics=metrics,
            parent=parent,
        )
        (folder / MANIFEST_PATH).parent.mkdir()
        for path, data in describe(manifest).items():
            (folder / path).write_bytes(data)
        manifest = replace(manifest, files=_entries(folder))
        (folder / MANIFEST_PATH).write_bytes(manifest.canonical())
        if out.exists():
            out.rmdir()
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _settle_config(path: Path, base: Base) -> None:
    """Make peft's config the same for the same run: sets sorted, and no path of this machine in it."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = base.repo
    config["revision"] = base.revision or None
    config["inference_mode"] = True
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _entries(folder: Path) -> tuple[FileEntry, ...]:
    return tuple(_entry(folder, name) for name in version_files(folder))


def _entry(folder: Path, name: str) -> FileEntry:
    data = (folder / name).read_bytes()
    return FileEntry(name, len(data), hashlib.sha256(data).hexdigest())
