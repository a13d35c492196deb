"""Where a run keeps checkpoints, and how a run that was killed finds them again."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hotshoe.adapter.errors import InvalidConfig

_IDENTITY = "inputs.sha256"


@contextmanager
def scratch_for(out: Path, inputs: str, *, keep: bool, first: bool = True) -> Iterator[Path]:
    """A folder for a run that writes to `out`; gone when the block ends well.

    first: False for a process that trains beside the first one, which owns the folder.

    keep: leave it where the block ends badly, as `.NAME.run` beside `out`; the next run with the same
    `inputs` (a digest of all that the run depends on) finds it as it was. Raises InvalidConfig where
    another run's folder stands there, or another process works in it.
    """
    if not keep:
        with tempfile.TemporaryDirectory(prefix="hotshoe-train-") as passing:
            yield Path(passing)
        return
    folder = out.with_name(f".{out.name}.run")
    folder.mkdir(parents=True, exist_ok=True)
    if not first:
        yield folder
        return
    try:
        with FileLock(folder / "lock", timeout=0):
            _claim(folder, inputs)
            yield folder
            shutil.rmtree(folder)
    except Timeout:
        raise InvalidConfig(f"another process is training {out} now: wait, or name another") from None


def unfinished(parent: Path, stem: str) -> Path | None:
    """The `out` of the newest run below `parent` that was killed, and whose name begins with `stem`-."""
    left = [path for path in parent.glob(f".{glob.escape(stem)}-*.run") if path.is_dir()]
    newest = max(left, key=lambda path: path.stat().st_mtime, default=None)
    return newest and newest.with_name(newest.name.removeprefix(".").removesuffix(".run"))


def _claim(folder: Path, inputs: str) -> None:
    identity = folder / _IDENTITY
    if identity.exists() and identity.read_text() != inputs:
        raise InvalidConfig(
            f"{folder} holds an unfinished run with other config or data: finish that one, or remove it"
        )
    identity.write_text(inputs)
