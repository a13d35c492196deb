"""What the bare base says to an exam, measured once and remembered.

The answers depend on the base, the rows and the limits alone, so the second run on the same rows
need not ask again. The cache is a convenience: a lost or broken entry is measured anew.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from hotshoe.registry.base import cache_folder
from hotshoe.train.evaluate import Heard


def remembered(key: str, measure: Callable[[], Heard], *, folder: Path | None = None) -> Heard:
    """The entry `key`, or what `measure` finds, which is then stored under it.

    folder: where entries are; default: in Hotshoe's cache folder.
    """
    path = (folder or cache_folder() / "baselines") / f"{key}.json"
    try:
        return Heard.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        heard = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(heard.to_json())
    os.replace(partial, path)
    return heard
