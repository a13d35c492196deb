"""The manifest: what a version is made of, from which base, by which training, with which results.

It is a function of the content alone (no time, no version number), so the same content published
twice has the same manifest and is the same version. It stands in the version's tree as
`.hotshoe/manifest.json` in canonical form: UTF-8 JSON, keys sorted, no spaces.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from hotshoe.adapter.errors import Tampered

MANIFEST_PATH = ".hotshoe/manifest.json"
SCHEMA = 1
MAX_MANIFEST_BYTES = 4 << 20
MAX_PATH_CHARACTERS = 255

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Base:
    """The frozen model an adapter belongs to.

    repo: Hub repo id, package name, or the folder's own name. revision: the repo's commit, the
    package's version, or empty. digest: sha256 over the folder's files (hotshoe.registry.base).
    """

    repo: str
    revision: str
    digest: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision or 'local'} ({self.digest[:12]})"


@dataclass(frozen=True, slots=True, order=True)
class FileEntry:
    """One file of a version: relative POSIX path, size in bytes, sha256 as 64 hex digits."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `.hotshoe/manifest.json` says.

    rank: the largest rank of any module. targets: module names the LoRA touches, sorted.
    training: free JSON facts of the run (recipe, config, data digest, template digest, libraries).
    metrics: held-out results, finite numbers by name. parent: `org/name@v3` this was trained from.
    """

    adapter: str
    base: Base
    rank: int
    alpha: float
    targets: tuple[str, ...]
    files: tuple[FileEntry, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    parent: str | None = None

    def canonical(self) -> bytes:
        """The bytes that are stored, hashed and signed."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "adapter": self.adapter,
                "base": {"repo": self.base.repo, "revision": self.base.revision, "digest": self.base.digest},
                "rank": self.rank,
                "alpha": self.alpha,
                "targets": sorted(self.targets),
                "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in sorted(self.files)],
                "training": dict(self.training),
                "metrics": dict(self.metrics),
                "parent": self.parent,
            },
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        ).encode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.canonical()).hexdigest()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest that a stranger may have written; raise Tampered for one that is not whole."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise Tampered(f"manifest of {len(data)} bytes is over the limit of {MAX_MANIFEST_BYTES}")
        try:
            raw = json.loads(data, parse_constant=_no_constant)
            if raw["schema"] != SCHEMA:
                raise Tampered(
                    f"manifest schema {raw['schema']!r} is not {SCHEMA}: upgrade hotshoe to read it"
                )
            base = raw["base"]
            manifest = cls(
                adapter=_text(raw["adapter"]),
                base=Base(_text(base["repo"]), _text(base["revision"]), _text(base["digest"])),
                rank=_whole(raw["rank"]),
                alpha=_number(raw["alpha"]),
                targets=tuple(sorted(_text(t) for t in _array(raw["targets"]))),
                files=tuple(
                    FileEntry(_safe_path(f["path"]), _whole(f["size"]), _sha256(f["sha256"]))
                    for f in _array(raw["files"])
                ),
                training=_mapping(raw["training"]),
                metrics={_text(k): _number(v) for k, v in _mapping(raw["metrics"]).items()},
                parent=None if raw["parent"] is None else _text(raw["parent"]),
            )
            manifest.canonical()  # JSON can hide half a surrogate or an infinite number in free fields.
        except Tampered:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise Tampered(f"manifest is not readable: {type(error).__name__}: {error}") from error
        if len({unicodedata.normalize("NFC", f.path).casefold() for f in manifest.files}) != len(
            manifest.files
        ):
            raise Tampered("manifest lists the same path twice, as some systems read it (case, accents)")
        return manifest


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise TypeError(f"expected a whole number, found {str(value)[:40]!r}")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError(f"expected a finite number, found {value!r}")
    return value


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {type(value).__name__}")
    return value


def _array(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"expected an array, found {type(value).__name__}")
    return value


def _sha256(value: object) -> str:
    text = _text(value)
    if not _SHA256.fullmatch(text):
        raise ValueError("a sha256 is 64 hex digits")
    return text


def _safe_path(value: object) -> str:
    text = _text(value)
    path = PurePosixPath(text)
    if (
        text in ("", ".")
        or path.is_absolute()
        or ".." in path.parts
        or "\\" in text
        or not text.isprintable()
        or len(text) > MAX_PATH_CHARACTERS
        or str(path) != text
        or re.match(r"[A-Za-z]:", text)
    ):
        raise ValueError(f"{text[:80]!r} is not a plain relative path")
    return text
