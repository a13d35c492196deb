from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from support import routing

if TYPE_CHECKING:
    from hotshoe.train.result import TrainResult

# As on any CPU without instructions for bfloat16, whichever this is: in it two runs learn not quite the same.
# oneDNN reads it once, and so do the processes that tests start.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")

# These tests share their cores with training runs: a slow example says nothing about the code.
settings.register_profile("beside-training", deadline=None)
settings.load_profile("beside-training")


@pytest.fixture(scope="package")
def tiny_tokenizer(tiny_base: Path) -> Any:
    from hotshoe.train.quiet import quiet

    with quiet():
        from hotshoe.train.model import load_tokenizer

        return load_tokenizer(tiny_base)


@pytest.fixture(scope="package", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what runs remember out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("HOTSHOE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The routing task's data."""
    return routing.write_task(tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="package")
def result(tiny_base: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """One whole run that learns the routing task."""
    from hotshoe.train.run import train

    return train(routing.config(tiny_base, folder), out=tmp_path_factory.mktemp("out") / "v1")
