"""Adapters that must not be served: each function takes the folder of a good tiny adapter and breaks it.

Named after what is wrong. vLLM by itself dies of some of them and takes others in silence.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))

    return change


def _tensors(change: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = change(load_file(path))
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)

    return rewrite


def _each(change: Callable[[torch.Tensor], torch.Tensor], *, only: str = "") -> Callable[[Path], None]:
    return _tensors(lambda all_: {n: change(t) if only in n else t for n, t in all_.items()})


def _renamed(old: str, new: str) -> Callable[[Path], None]:
    return _tensors(lambda all_: {name.replace(old, new): tensor for name, tensor in all_.items()})


def _first_number(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.clone()
        changed.view(-1)[0] = value
        return changed

    return change


def _cut(keep: int) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[:keep])

    return cut


def _as_pickle(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"weights": "not these"}))
    path.unlink()


def _no_json(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{r: 8")


def _lm_head(folder: Path) -> None:
    _tensors(lambda all_: all_ | {"base_model.model.lm_head.weight": torch.zeros(1024, 128)})(folder)


PLAIN: dict[str, Callable[[Path], None]] = {
    "no folder": lambda folder: shutil.rmtree(folder),
    "no configuration": lambda folder: (folder / "adapter_config.json").unlink(),
    "no weights": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "empty weights": _cut(0),
    "truncated weights": _cut(5_000),
    "a configuration that is no JSON": _no_json,
    "rank 0": _config(r=0),
    "a rank that is text": _config(r="8"),
    "a rank over the limit": _config(r=1024),
    "no tensors": _tensors(lambda all_: {}),
    "a pickle": _as_pickle,
    "full weights of lm_head": _lm_head,
    "NaN": _each(_first_number(float("nan")), only="0.self_attn.q_proj.lora_B"),
    "infinity": _each(_first_number(float("inf")), only="1.mlp.up_proj.lora_A"),
}
"""Wrong enough for any engine to see."""

DEEP: dict[str, Callable[[Path], None]] = {
    "no alpha": _config(lora_alpha=...),
    "an unknown target": _renamed("q_proj", "query_proj"),
    "DoRA": _config(use_dora=True),
    "modules to save": _config(modules_to_save=["lm_head"]),
    "bias": _config(bias="all"),
    "PiSSA": _config(init_lora_weights="pissa"),
    "a missing B": _tensors(lambda all_: {n: t for n, t in all_.items() if "0.mlp.up_proj.lora_B" not in n}),
    "only A": _tensors(lambda all_: {n: t for n, t in all_.items() if "lora_A" in n}),
    "shapes too big": _each(lambda t: torch.cat([t, t], dim=1), only="lora_A"),
    "shapes too small": _each(lambda t: t[:, : t.shape[1] // 2], only="q_proj.lora_A"),
    "transposed": _each(lambda t: t.t(), only="o_proj"),
    "a wrong key prefix": _renamed("base_model.model.model.", "base_model.model.transformer."),
    "layers that the base lacks": _renamed("layers.1.", "layers.9."),
    "a rank unlike the tensors'": _config(r=4),
    "only some ranks unlike the tensors'": _config(rank_pattern={"q_proj": 4}),
}
"""Wrong in ways that only an engine with a model, or the registry's inspection, can see."""
