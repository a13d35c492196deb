"""Saying in the registry's words what a disk says in its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hotshoe.adapter.errors import RegistryUnavailable


@contextlib.contextmanager
def using_disk(failed: str, remedy: str) -> Iterator[None]:
    """Turn an OSError of the block (no room, no right to write) into RegistryUnavailable.

    failed: what was not done, as a clause. remedy: what to do next.
    """
    try:
        yield
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        raise RegistryUnavailable(f"{failed}: {error.strerror or error}{place}; {remedy}") from error
