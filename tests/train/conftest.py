from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_base: Path) -> Any:
    from hotshoe.train.quiet import quiet

    with quiet():
        from hotshoe.train.model import load_tokenizer

        return load_tokenizer(tiny_base)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what runs remember out of the user's cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HOTSHOE_CACHE", str(folder))
    return folder
