"""What the shelf hands to the engine, of whatever the registry holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import tiny
from support.adapters import SUPPORT
from support.broken import DEEP, PLAIN
from support.smuggled import smuggle

from hotshoe.adapter.errors import BaseMismatch, Tampered, Unservable
from hotshoe.adapter.manifest import Base
from hotshoe.registry import open_registry
from hotshoe.serve.engine import EngineFacts
from hotshoe.serve.planning import read_base_config
from hotshoe.serve.shelf import Shelf

BASE = Base("tiny", "", "0" * 64)
FAULTS = {name: fault for name, fault in (PLAIN | DEEP).items() if name != "no folder"}


def facts(base: Path, number_bytes: int = 4) -> EngineFacts:
    """Of an engine on the tiny base."""
    config = read_base_config(base)
    return EngineFacts(BASE, 512, tiny.VOCABULARY, 4, 16, base_config=config, number_bytes=number_bytes)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_came_past_the_inspection_of_publish_does_not_get_past_this_one(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path, fault: str
) -> None:
    folder = Path(shutil.copytree(tiny_adapter("sound", 400), tmp_path / "broken"))
    FAULTS[fault](folder)
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(registry, folder, SUPPORT, BASE, tiny.ALL_LINEAR)
        # What is no file of a version is not even fetched.
        with pytest.raises((Unservable, Tampered)):
            Shelf(registry, facts(tiny_base)).take(version)


def test_a_version_weighs_its_numbers_in_the_engines_precision(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    rank = 8
    numbers = sum(rank * sum(tiny.shapes(each)) for each in tiny.ALL_LINEAR) * tiny.LAYERS
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(registry, tiny_adapter("sound", 401), SUPPORT, BASE, tiny.ALL_LINEAR)
        for number_bytes in (2, 4):
            shelf = Shelf(registry, facts(tiny_base, number_bytes=number_bytes))
            assert shelf.take(version).size == numbers * number_bytes
            shelf.give_back(version)


def test_a_version_for_another_base_is_refused_and_both_are_named(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    other = Base("other", "", "1" * 64)
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(registry, tiny_adapter("sound", 402), SUPPORT, other, tiny.ALL_LINEAR)
        with pytest.raises(BaseMismatch, match=r"other.*tiny"):
            Shelf(registry, facts(tiny_base)).take(version)
