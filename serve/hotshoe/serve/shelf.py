"""Takes versions from the registry, and only those that this server's base and slots can hold."""

from __future__ import annotations

import logging
from pathlib import Path

from hotshoe.adapter.errors import BaseMismatch, Unservable
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.version import Version
from hotshoe.registry import Registry
from hotshoe.registry.inspect import inspect
from hotshoe.serve.engine import EngineFacts
from hotshoe.serve.fetching import Taken

log = logging.getLogger(__name__)

REMEMBERED = 16_384
"""Versions that are not inspected again."""


class Shelf:
    """Hands the pool verified and inspected folders. Blocking: call it in a thread."""

    def __init__(self, registry: Registry, facts: EngineFacts, *, same_template: bool = False) -> None:
        """same_template: refuse versions that were trained with another chat template than the engine's."""
        self._registry = registry
        self._facts = facts
        self._same_template = same_template
        # By digest: the registry hands out no bytes but those, so what they are worth stays true.
        self._sizes: dict[str, int] = {}

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
        self._compare_templates(version, manifest)
        folder = self._registry.fetch(version)
        try:
            return Taken(folder, self._sizes.get(version.manifest_sha256) or self._inspected(version, folder))
        except BaseException:
            self._registry.release(version)
            raise

    def give_back(self, version: Version) -> None:
        """The folder of one `take` is not needed any more: the registry's cache may drop it."""
        self._registry.release(version)

    def _compare_templates(self, version: Version, manifest: Manifest) -> None:
        """Warn, or raise Unservable, where chats would reach the adapter in another form than in training."""
        trained, ours = manifest.training.get("chat_template_sha256"), self._facts.template_sha256
        if not isinstance(trained, str) or not trained or not ours or trained == ours:
            return
        difference = (
            f"{version} was trained with another chat template ({trained[:12]}) than this server's base has "
            f"({ours[:12]}): chats reach it in a form that it never saw; train it for this base as it is here"
        )
        if self._same_template:
            raise Unservable(
                f"{difference}, or serve without --same-template",
                details={"adapter": str(version.adapter), "version": version.tag},
            )
        log.warning("%s", difference)

    def _inspected(self, version: Version, folder: Path) -> int:
        """The size of a version that may be served."""
        # Once more: whoever may write to the registry need not have come through our publish.
        shapes = self._facts.base_config or None
        found = inspect(folder, shapes, max_rank=self._facts.max_rank)
        found.raise_for_errors()
        # Stored in half the precision it may be, but the engine keeps everything in its own.
        size = found.numbers * self._facts.number_bytes
        if len(self._sizes) >= REMEMBERED:
            self._sizes.clear()
        self._sizes[version.manifest_sha256] = size
        return size
