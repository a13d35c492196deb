"""Does the folder bring tokens that the base does not have? The engine would never see them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hotshoe.registry.inspect.findings import Finding, Malformed, error, warning
from hotshoe.registry.inspect.folder import read_whole
from hotshoe.registry.inspect.strict_json import parse_object

_MAX_BYTES = 64 << 20


def tokenizer_findings(folder: Path, vocabulary: int | None) -> Iterator[Finding]:
    """Compare the highest added token with the base's vocabulary, where both are known."""
    for name in ("added_tokens.json", "tokenizer.json"):
        if not os.path.lexists(folder / name):
            continue
        try:
            highest = _highest_added(parse_object(read_whole(folder / name, _MAX_BYTES)))
        except (Malformed, ValueError):
            yield warning("BAD_TOKENIZER", name, "cannot be read", "it is left out; the base's is used")
            continue
        if vocabulary is not None and highest >= vocabulary:
            yield error(
                "EXTRA_VOCABULARY",
                name,
                f"adds token {highest}, the base's vocabulary ends at {vocabulary - 1}",
                "train with the base's own tokens",
            )


def _highest_added(tokenizer: dict[str, Any]) -> int:
    added = tokenizer.get("added_tokens")
    if isinstance(added, list):
        ids = [token.get("id") for token in added if isinstance(token, dict)]
    else:
        ids = list(tokenizer.values())
    return max((number for number in ids if isinstance(number, int)), default=-1)
