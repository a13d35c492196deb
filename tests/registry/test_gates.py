"""Gates of a training run, asked when a version is to be promoted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.adapters import SUPPORT, make_adapter, make_base

from hotshoe.adapter.errors import GateFailed
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.registry import Registry, open_registry
from hotshoe.registry.gates import failed_gates

PASSED = {"gate": "exact >= base + 0.1", "value": 0.9, "limit": 0.2, "passed": True}
FAILED = {"gate": "forgetting <= 0.2", "value": 0.5, "limit": 0.2, "passed": False}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """acme/support@v1, whose second gate failed."""
    base = make_base(tmp_path / "base")
    folder = make_adapter(tmp_path / "adapter", 1)
    manifest = Manifest(str(SUPPORT), base.base, 0, 1.0, (), (), {"gates": [PASSED, FAILED]})
    (folder / MANIFEST_PATH).parent.mkdir()
    (folder / MANIFEST_PATH).write_bytes(manifest.canonical())
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as opened:
        opened.publish(folder, SUPPORT)
        yield opened


def test_a_version_whose_gates_failed_is_not_promoted(registry: Registry) -> None:
    with pytest.raises(GateFailed, match=r"acme/support@v1 did not pass forgetting <= 0.2"):
        registry.promote(SUPPORT, "prod", 1)
    assert registry.history(SUPPORT) == []


def test_by_force_it_is_and_the_history_says_so(registry: Registry) -> None:
    registry.promote(SUPPORT, "prod", 1, reason="the demo is at noon", force=True)
    assert [move.reason for move in registry.history(SUPPORT)] == ["forced: the demo is at noon"]


@pytest.mark.parametrize(
    ("gates", "failed"),
    [
        ([], ()),
        ([PASSED], ()),
        ([PASSED, FAILED], ("forgetting <= 0.2",)),
        ([{"passed": "yes"}], ("?",)),
        (["exact"], ("exact",)),
        ("all fine", ("training.gates is no list",)),
    ],
)
def test_only_a_gate_that_says_passed_is_passed(
    registry: Registry, gates: Any, failed: tuple[str, ...]
) -> None:
    raw = json.loads(registry.show(SUPPORT).latest.manifest.canonical())
    raw["training"] = {"gates": gates}
    assert failed_gates(Manifest.parse(json.dumps(raw).encode())) == failed
