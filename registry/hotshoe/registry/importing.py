"""Bring in an adapter that somebody else made: take its own files and nothing else, ready to publish.

A folder or a Hub repo becomes a clean folder with config, weights and card (and the tokenizer's files,
for inspection alone). Weights in the old pickle format are converted only when that is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from hotshoe.adapter.errors import InvalidRequest, NotFound, Unservable
from hotshoe.registry.inspect import CONFIG_FILE, README_FILE, WEIGHTS_FILE
from hotshoe.registry.inspect.folder import MAX_BYTES

Fetch = Callable[[str], Path]
"""Brings `org/repo[@revision]` to this machine and returns its folder."""

LEGACY_FILES = ("adapter_model.bin", "adapter_model.pt")
TOKENIZER_FILES = ("added_tokens.json", "tokenizer.json")

CONVERSION_SECONDS = 300.0
MAX_LEGACY_BYTES = 2 << 30

_MAX_TOKENIZER_BYTES = 64 << 20
_CONVERTER = Path(__file__).with_name("unpickle.py")


def import_adapter(
    source: str | Path,
    into: Path,
    *,
    fetch: Fetch | None = None,
    allow_pickle: bool = False,
    seconds: float = CONVERSION_SECONDS,
) -> Path:
    """Copy the adapter in `source`, a folder or a Hub repo, to the folder `into`; return `into`.

    allow_pickle: where there is only an old .bin or .pt, convert it, in a process of its own that reads
    no code (weights_only) and is bounded in memory and by `seconds`. The outcome is inspected when it is
    published, like any other.

    Raises NotFound for what is neither a folder nor fetched, InvalidRequest for a pickle without leave,
    Unservable for files that cannot be taken or converted.
    """
    folder = _folder(source, fetch)
    into.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE, README_FILE, *TOKENIZER_FILES):
        if (folder / name).exists():
            _copy(folder, name, into / name)
    if not (into / CONFIG_FILE).exists():
        raise Unservable(f"{source} has no {CONFIG_FILE}: it is no PEFT adapter, name one that is")
    if not (into / WEIGHTS_FILE).exists():
        _convert(folder, into, source, allow_pickle, seconds)
    return into


def named_base(folder: Path) -> str:
    """The base that an adapter's own config names; InvalidRequest where it names none."""
    try:
        named = json.loads((folder / CONFIG_FILE).read_bytes())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        named = None
    if not isinstance(named, str) or not named:
        raise InvalidRequest(f"{CONFIG_FILE} does not say which base it was trained for: name it with --base")
    return named


def _folder(source: str | Path, fetch: Fetch | None) -> Path:
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if fetch is None or isinstance(source, Path) or source.count("/") != 1:
        raise NotFound(f"{source} is no folder: give the folder of a PEFT adapter, or a Hub repo as org/repo")
    return fetch(source)


def _copy(folder: Path, name: str, target: Path) -> None:
    origin = _own_file(folder, name)
    size, limit = origin.stat().st_size, MAX_BYTES.get(name, _MAX_TOKENIZER_BYTES)
    if size > limit:
        raise Unservable(f"{name} has {size} bytes, over the limit of {limit}: give a smaller adapter")
    shutil.copyfile(origin, target)


def _own_file(folder: Path, name: str) -> Path:
    """The file itself. A link is followed only into the Hub cache's own blobs, where snapshots point.

    Any other could lead out of a stranger's folder, and publish one of our own files under their name.
    """
    path = (folder / name).resolve()
    homes = [folder.resolve()]
    if folder.parent.name == "snapshots":
        homes.append((folder.parent.parent / "blobs").resolve())
    if path.parent not in homes or not path.is_file():
        raise Unservable(f"{name} is a link that leads out of {folder}: copy the file itself there")
    return path


def _convert(folder: Path, into: Path, source: str | Path, allow_pickle: bool, seconds: float) -> None:
    legacy = next((name for name in LEGACY_FILES if (folder / name).exists()), None)
    if legacy is None:
        raise Unservable(f"{source} has no {WEIGHTS_FILE}: save the adapter with safe_serialization=True")
    if not allow_pickle:
        raise InvalidRequest(
            f"{source} has its weights only as {legacy}, a pickle, which can hold code: if you trust "
            "its maker, allow the conversion with --allow-pickle"
        )
    path = _own_file(folder, legacy)
    if (size := path.stat().st_size) > MAX_LEGACY_BYTES:
        raise Unservable(
            f"{legacy} has {size} bytes, over the limit of {MAX_LEGACY_BYTES}: convert it yourself"
        )
    _run_converter(path, into / WEIGHTS_FILE, seconds)


def _run_converter(path: Path, target: Path, seconds: float) -> None:
    # -I and an empty environment: no search path of ours, no token to read, nothing to import but torch.
    command = [sys.executable, "-I", str(_CONVERTER), str(path), str(target)]
    environment = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ}
    try:
        done = subprocess.run(
            command,
            env=environment | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        target.unlink(missing_ok=True)
        raise Unservable(
            f"converting {path.name} took over {seconds:g} seconds: convert it yourself, with safetensors"
        ) from error
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1][:300] if said else f"the converter died of signal {-done.returncode}"
        raise Unservable(f"{path.name} cannot be converted: {why}")
