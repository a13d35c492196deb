"""What the bare base answers to an exam's questions, asked once and remembered.

The answers depend on the base, the questions and the limits alone, so the second run with the same
questions need not ask again. The cache is a convenience: a lost or broken entry is asked anew.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from hotshoe.registry.base import cache_folder
from hotshoe.train.evaluate import Answer


def remembered(
    key: str, ask: Callable[[], tuple[Answer, ...]], *, folder: Path | None = None
) -> tuple[Answer, ...]:
    """The entry `key`, or what `ask` gives, which is then stored under it.

    folder: where entries are; default: in Hotshoe's cache folder.
    """
    path = (folder or cache_folder() / "baselines") / f"{key}.json"
    try:
        return tuple(Answer(**answer) for answer in json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        answers = ask()
    with suppress(OSError):
        # A full disk costs the memory, not the run.
        _remember(path, answers)
    return answers


def _remember(path: Path, answers: tuple[Answer, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump([asdict(answer) for answer in answers], file, ensure_ascii=False)
        os.replace(partial, path)
    except OSError:
        os.unlink(partial)
        raise
