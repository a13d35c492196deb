"""Which files make a version, and what must not lie beside them."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hotshoe.registry.inspect.findings import Finding, Malformed, error, unservable, warning

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
README_FILE = "README.md"
REPORT_FILE = ".hotshoe/report.html"
PLOT_FILE = ".hotshoe/report.png"
"""What a training run says of itself, for people."""

MAX_BYTES = {
    CONFIG_FILE: 1 << 20,
    README_FILE: 4 << 20,
    WEIGHTS_FILE: 8 << 30,
    REPORT_FILE: 4 << 20,
    PLOT_FILE: 4 << 20,
}
PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})

_REQUIRED = (CONFIG_FILE, WEIGHTS_FILE)
_OWN_FOLDER = ".hotshoe"
_OWN_FILES = frozenset({"manifest.json", "alias.json", "signature.json"})
_UNMENTIONED = frozenset({".gitattributes", ".gitignore"})
_MAX_ENTRIES = 10_000


def version_files(folder: Path) -> tuple[str, ...]:
    """The files of FOLDER that belong to a version, sorted; nothing else is ever published.

    Raises Unservable where a required one is missing, is no regular file, or is over its limit.
    """
    present = tuple(name for name in sorted(MAX_BYTES) if os.path.lexists(folder / name))
    if errors := tuple(_required_findings(folder, present)):
        raise unservable(errors)
    return present


def folder_findings(folder: Path) -> Iterator[Finding]:
    """Judge the folder by names, kinds and sizes alone; no file is opened."""
    if not folder.is_dir():
        yield error(
            "NO_FOLDER", folder.name, "is no folder", "give the folder that PEFT saved the adapter to"
        )
        return
    present = tuple(name for name in MAX_BYTES if os.path.lexists(folder / name))
    yield from _required_findings(folder, present)
    try:
        entries = _walk(folder)
    except OSError as failure:
        yield error(
            "UNREADABLE", folder.name, f"cannot be listed ({failure.strerror})", "check its permissions"
        )
        return
    except Malformed as broken:
        yield broken.finding
        return
    yield from _name_findings(entries)
    yield from _content_findings(entries)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file that is itself, not a link, a pipe or a device; raise Malformed otherwise."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except OSError as failure:
        raise Malformed(
            error(
                "UNREADABLE",
                path.name,
                f"cannot be read ({failure.strerror})",
                "check that it is a plain file",
            )
        ) from failure
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Malformed(error("NOT_A_FILE", path.name, "is no regular file", "replace it with a plain file"))
    return os.fdopen(handle, "rb")


def read_whole(path: Path, limit: int) -> bytes:
    """The file's bytes; raise Malformed where it cannot be read or is over `limit` bytes."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Malformed(_oversized(path.name, len(data), limit))
    return data


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    mode: int

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


def _walk(folder: Path) -> list[_Entry]:
    """Every entry below, as a relative POSIX path; links are listed, never followed.

    Hidden folders other than Hotshoe's own (.git, .cache) are listed without their content: none of it
    is ever published.
    """
    found: list[_Entry] = []
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(folder / prefix) as listing:
            for item in listing:
                path = f"{prefix}{item.name}"
                mode = item.stat(follow_symlinks=False).st_mode
                found.append(_Entry(path, mode))
                if len(found) > _MAX_ENTRIES:
                    raise Malformed(
                        error(
                            "TOO_MANY_FILES",
                            folder.name,
                            f"holds over {_MAX_ENTRIES} files",
                            "publish from a folder that holds only the adapter",
                        )
                    )
                if stat.S_ISDIR(mode) and (not item.name.startswith(".") or path == _OWN_FOLDER):
                    pending.append(f"{path}/")
    return sorted(found, key=lambda entry: entry.path)


def _required_findings(folder: Path, present: tuple[str, ...]) -> Iterator[Finding]:
    for name in _REQUIRED:
        if name not in present:
            yield error(
                "MISSING_FILE",
                name,
                "is missing",
                "save the adapter with save_pretrained(..., safe_serialization=True), "
                "or bring a legacy .bin in with `hotshoe import --allow-pickle`",
            )
    for name in present:
        status = os.lstat(folder / name)
        if not stat.S_ISREG(status.st_mode):
            yield error("NOT_A_FILE", name, "is no regular file", "replace it with a plain file")
        elif status.st_size > MAX_BYTES[name]:
            yield _oversized(name, status.st_size, MAX_BYTES[name])


def _name_findings(entries: list[_Entry]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for entry in entries:
        if not entry.path.isprintable() or "\\" in entry.path or ":" in entry.path:
            yield error(
                "BAD_NAME",
                entry.path,
                "has a name that other systems read differently",
                "rename or delete it",
            )
        key = unicodedata.normalize("NFC", entry.path).casefold()
        if key in seen:
            yield error(
                "CASE_COLLISION",
                entry.path,
                f"is the same name as {seen[key]} on systems that ignore case",
                "delete one of them",
            )
        seen[key] = entry.path


def _content_findings(entries: list[_Entry]) -> Iterator[Finding]:
    left_out = []
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if stat.S_ISLNK(entry.mode):
            if entry.path not in MAX_BYTES:
                yield error(
                    "SYMLINK", entry.path, "is a symbolic link", "copy the file itself into the folder"
                )
        elif stat.S_ISDIR(entry.mode) or entry.path in MAX_BYTES:
            continue
        elif not stat.S_ISREG(entry.mode):
            yield error("NOT_A_FILE", entry.path, "is no regular file", "delete it")
        elif suffix in PICKLE_SUFFIXES:
            yield error(
                "PICKLE",
                entry.path,
                "is a pickle, which can run code when it is loaded",
                "delete it, or use `hotshoe import`, which takes only the adapter's own files",
            )
        elif suffix == ".safetensors":
            yield error(
                "EXTRA_WEIGHTS",
                entry.path,
                f"is a second weights file; the engine reads only {WEIGHTS_FILE}",
                "delete it, or save the adapter unsharded",
            )
        elif entry.path.startswith(f"{_OWN_FOLDER}/"):
            if entry.path.removeprefix(f"{_OWN_FOLDER}/") not in _OWN_FILES:
                yield error(
                    "FOREIGN_FILE", entry.path, "does not belong in Hotshoe's own folder", "delete it"
                )
        elif entry.path not in _UNMENTIONED:
            left_out.append(entry.path)
    if left_out:
        yield warning(
            "LEFT_OUT",
            left_out[0],
            "is no part of a version"
            if len(left_out) == 1
            else f"and {len(left_out) - 1} more are no part of a version",
            "nothing to do, unless the adapter needs them: the engine uses the base's tokenizer and template",
        )


def _oversized(name: str, size: int, limit: int) -> Finding:
    return error("OVERSIZED", name, f"is over the limit of {limit} bytes ({size})", "give a smaller file")
