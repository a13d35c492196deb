"""Where a run keeps checkpoints, and how a run that was killed finds them again."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.disk import check_room, disk_explained

_IDENTITY, _LOCK = "inputs.sha256", "lock"


@contextmanager
def scratch_for(out: Path, inputs: str, *, keep: bool, first: bool = True, needed: int = 0) -> Iterator[Path]:
    """A folder `.NAME.run` beside `out` for the run that writes there; gone when the block ends well.

    No other run writes to `out` meanwhile. keep: leave the folder where the block ends badly; the next run
    with the same `inputs` (a digest of all that the run depends on) finds it as it was. first: False for a
    process that trains beside the first one, which owns the folder. needed: bytes that the run will write.
    Raises InvalidConfig where another run's folder stands there, or another process works in it, and Refused
    where the disk has no room.
    """
    folder = out.with_name(f".{out.name}.run")
    if not first and not keep:
        with tempfile.TemporaryDirectory(prefix="hotshoe-train-") as passing:
            yield Path(passing)
        return
    if not first:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    fresh = not folder.exists()
    with ExitStack() as held:
        with _made(folder, needed):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(FileLock(folder / _LOCK, timeout=0))
            except Timeout:
                raise InvalidConfig(f"another process is training {out} now: wait, or name another") from None
        try:
            check_room(folder, needed)
            with _made(folder, needed):
                _claim(folder, inputs, keep=keep)
        except BaseException:
            if fresh:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            yield folder
        except BaseException:
            if not keep:
                # What is told is what ended the run; a disk that fails may keep its folder.
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder)


def _made(folder: Path, needed: int) -> AbstractContextManager[None]:
    return disk_explained(
        "the run's folder", folder, needed, lambda: "Make room there, or name another --out"
    )


def unfinished(parent: Path, stem: str) -> Path | None:
    """The `out` of the newest run below `parent` that was killed, and whose name begins with `stem`-."""
    runs = parent.glob(f".{glob.escape(stem)}-*.run")
    left = [path for path in runs if (path / _IDENTITY).is_file()]
    newest = max(left, key=lambda path: path.stat().st_mtime, default=None)
    return newest and newest.with_name(newest.name.removeprefix(".").removesuffix(".run"))


def _claim(folder: Path, inputs: str, *, keep: bool) -> None:
    identity = folder / _IDENTITY
    if identity.exists():
        if not keep or identity.read_text() != inputs:
            raise InvalidConfig(
                f"{folder} holds an unfinished run with other config or data: finish that one, or remove it"
            )
        return
    # A run that kept nothing was killed here.
    for left in folder.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
        elif left.name != _LOCK:
            left.unlink()
    if keep:
        identity.write_text(inputs)
