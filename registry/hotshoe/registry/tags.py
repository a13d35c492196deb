"""The words that a version is to be found by. They stand in the manifest, as `training.tags`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.adapter.manifest import Manifest

_TAG = re.compile(r"[^\W_][\w.:+-]{0,63}")


def tags_of(manifest: Manifest) -> tuple[str, ...]:
    """The words a version was tagged with, as a stranger's manifest may have them."""
    return _tags(manifest.training)


def tagged(training: Mapping[str, Any], tags: Collection[str]) -> Mapping[str, Any]:
    """The training facts with these tags among them; InvalidRequest for one that nobody could search for."""
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise InvalidRequest(
                f"{tag[:80]!r} is no tag: use 1 to 64 letters, digits, '.', '_', ':', '+' or '-', beginning "
                "with a letter or digit"
            )
    return {**training, "tags": sorted({*tags, *_tags(training)})} if tags else training


def _tags(training: Mapping[str, Any]) -> tuple[str, ...]:
    tags = training.get("tags", ())
    return tuple(str(tag) for tag in tags) if isinstance(tags, list | tuple) else ()
