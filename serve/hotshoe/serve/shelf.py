"""Takes versions from the registry, and only those that this server's base and slots can hold."""

from __future__ import annotations

import math
from pathlib import Path

from hotshoe.adapter.errors import BaseMismatch, Unservable
from hotshoe.adapter.version import Version
from hotshoe.registry import Registry
from hotshoe.registry.inspect import WEIGHTS_FILE, inspect
from hotshoe.registry.inspect.header import read_header
from hotshoe.serve.engine import EngineFacts
from hotshoe.serve.fetching import Taken


class Shelf:
    """Hands the pool verified and inspected folders. Blocking: call it in a thread."""

    def __init__(self, registry: Registry, facts: EngineFacts) -> None:
        self._registry = registry
        self._facts = facts

    def take(self, version: Version) -> Taken:
        """The version's verified, immutable folder, there until it is given back.

        Raises BaseMismatch, Unservable (its rank is over the slots', or what inspection finds), Tampered,
        Untrusted or RegistryUnavailable.
        """
        manifest = self._registry.manifest(version)
        if manifest.base.digest != self._facts.base.digest:
            raise BaseMismatch(
                f"{version} was trained for {manifest.base}, and this server's base is {self._facts.base}: "
                "call a server of that base, or train the adapter for this one"
            )
        if manifest.rank > self._facts.max_rank:
            raise Unservable(
                f"{version} has rank {manifest.rank}, and this server's slots hold {self._facts.max_rank}: "
                f"serve with --max-rank {manifest.rank} or more, or train with a lower rank"
            )
        folder = self._registry.fetch(version)
        try:
            # Once more: whoever may write to the registry need not have come through our publish.
            shapes = self._facts.base_config or None
            inspect(folder, shapes, max_rank=self._facts.max_rank).raise_for_errors()
            return Taken(folder, self._size(folder))
        except BaseException:
            self._registry.release(version)
            raise

    def give_back(self, version: Version) -> None:
        """The folder of one `take` is not needed any more: the registry's cache may drop it."""
        self._registry.release(version)

    def _size(self, folder: Path) -> int:
        # Stored in half the precision it may be, but the engine keeps everything in its own.
        numbers = sum(math.prod(each.shape) for each in read_header(folder / WEIGHTS_FILE).tensors)
        return numbers * self._facts.number_bytes
