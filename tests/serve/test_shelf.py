"""What the shelf hands to the engine, of whatever the registry holds."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
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


def _trained_with(template: str) -> dict[str, str]:
    return {"chat_template_sha256": hashlib.sha256(template.encode()).hexdigest()}


@pytest.mark.parametrize("training", [{}, _trained_with("{{ ours }}"), {"chat_template_sha256": 3}])
def test_a_version_of_the_servers_own_chat_template_or_of_none_is_taken_without_a_word(
    tiny_base: Path,
    tiny_adapter: Callable[..., Path],
    tmp_path: Path,
    training: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = replace(facts(tiny_base), template_sha256=_trained_with("{{ ours }}")["chat_template_sha256"])
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(
            registry, tiny_adapter("sound", 403), SUPPORT, BASE, tiny.ALL_LINEAR, training=training
        )
        Shelf(registry, ours, same_template=True).take(version)
    assert not caplog.messages


def test_a_version_of_another_chat_template_is_told_in_the_log_or_refused_if_the_operator_wants_that(
    tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = replace(facts(tiny_base), template_sha256=_trained_with("{{ ours }}")["chat_template_sha256"])
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        version = smuggle(
            registry,
            tiny_adapter("sound", 404),
            SUPPORT,
            BASE,
            tiny.ALL_LINEAR,
            training=_trained_with("{{ theirs }}"),
        )
        Shelf(registry, ours).take(version)
        assert any(
            "acme/support@v1 was trained with another chat template" in each for each in caplog.messages
        )
        with pytest.raises(Unservable, match=r"another chat template .* without --same-template"):
            Shelf(registry, ours, same_template=True).take(version)
