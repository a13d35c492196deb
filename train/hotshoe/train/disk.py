"""A disk that takes no more: told with the place, what was to be written, and what to do about it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hotshoe.adapter.errors import Refused
from hotshoe.train.config import TrainConfig
from hotshoe.train.estimate import Shape

_REFUSALS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
)
_OF_A_PLACE = frozenset({errno.EIO, errno.EACCES, errno.EPERM})
"""Of these, what may come from any other file as well: a reward function's, a tracker's."""

_CHECKPOINTS_AT_ONCE = 3
"""Two are kept while the next one is written."""

_BESIDE_BYTES = 16 << 20
"""What is written beside weights: configs, copies of the tokenizer, the report."""


@contextmanager
def disk_explained(what: str, folder: Path, needed: int, advice: Callable[[], str]) -> Iterator[None]:
    """Turn a disk's refusal inside the block into Refused.

    A lack of rights, or a device that fails, counts only where it is about a place in `folder`, or on the way
    there. needed: bytes that the block writes to `folder`, about. advice: what to do next, asked when it
    happens.
    """
    try:
        yield
    except Exception as error:
        said = _said(error, folder)
        if said is None:
            raise
        raise Refused(f"{what} could not be written: {said}; {_room(folder, needed)}. {advice()}") from error


def check_room(folder: Path, needed: int, *, free: int | None = None) -> None:
    """Raise Refused where the disk has less than `needed` bytes for what is to be in `folder`, those that it
    holds already among them. free: bytes that are free there; default: as the disk says."""
    if free is None:
        free = shutil.disk_usage(_existing(folder)).free
    held = sum(_size(Path(root, name)) for root, _, names in os.walk(folder) for name in names)
    if needed - held > free:
        raise Refused(f"{_room(folder, needed)}: make room there, or name another --out")


def written_bytes(config: TrainConfig, shape: Shape) -> int:
    """About the most bytes that a run has on disk at once: the adapter, as it began and ended where both are
    needed, and checkpoints with Adam's moments."""
    if config.recipe in ("full", "merge"):
        # What is trained are the base's own weights, of which none is written, or nothing.
        return _BESIDE_BYTES + shape.adapter * 4
    checkpoints = _CHECKPOINTS_AT_ONCE if config.training.checkpoint_every_steps else 0
    adapters = 3 if config.lora.moves_base else 1
    if config.training.check_every_steps:
        # The best of now, the one that takes its place, and that of each checkpoint.
        adapters += 2 + checkpoints
    return _BESIDE_BYTES + (adapters + 3 * checkpoints) * shape.trainable * 4


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # Gone meanwhile, or a link to nothing.
        return 0


def _said(error: Exception, folder: Path) -> str | None:
    """What the disk said, or None where the error is not a disk's."""
    if isinstance(error, OSError):
        if error.errno in _OF_A_PLACE and not _concerns(folder, error.filename):
            return None
        place = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{place}" if error.errno in _REFUSALS else None
    if type(error).__name__ == "SafetensorError":
        return next((str(error) for number in _REFUSALS if f"(os error {number})" in str(error)), None)
    # torch's writer drops the system's words (caffe2/serialize/inline_container.cc).
    return "torch could not write its file" if "inline_container.cc" in str(error) else None


def _concerns(folder: Path, place: object) -> bool:
    if not isinstance(place, str | os.PathLike):
        return False
    found, folder = Path(place).absolute(), folder.absolute()
    return found.is_relative_to(folder) or folder.is_relative_to(found)


def _room(folder: Path, needed: int) -> str:
    place = _existing(folder)
    return f"the run writes about {_mib(needed)}, and {place} has {_mib(shutil.disk_usage(place).free)} free"


def _existing(place: Path) -> Path:
    """The nearest folder that is there."""
    return next(folder for folder in (place, *place.resolve().parents) if folder.is_dir())


def _mib(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
