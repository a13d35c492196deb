"""Locks between processes, on files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock


def file_lock(
    path: str | os.PathLike[str],
    *,
    timeout: float = -1,
    blocking: bool = True,
    thread_local: bool = True,
    poll_interval: float = 0.05,
) -> FileLock:
    """A lock on `path`, to be held with `with`; the arguments are filelock's.

    Raises TimeoutError where it is not free in time, at once if it is not `blocking`.
    """
    # Imported here: it takes as long as all else that listing a registry takes.
    from filelock import FileLock

    return FileLock(
        path, timeout=timeout, blocking=blocking, thread_local=thread_local, poll_interval=poll_interval
    )
