"""What a marker that a stranger may have written is believed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from support.adapters import SUPPORT

from hotshoe.adapter.errors import Tampered
from hotshoe.adapter.version import Version
from hotshoe.registry.values import Marker, Target

MARKER = Marker(
    action="promote",
    to=(Target(Version(SUPPORT, 2, "b" * 40, "2" * 64)),),
    before=(Target(Version(SUPPORT, 1, "a" * 40, "1" * 64)),),
    previous="c" * 40,
    actor="ada",
    reason="better",
    promotion_id="p1",
    at=datetime(2026, 11, 1, 12, tzinfo=UTC),
)


def test_a_marker_is_read_as_it_was_written() -> None:
    assert Marker.parse(MARKER.canonical(), SUPPORT) == MARKER


@pytest.mark.parametrize("side", ["to", "before"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("commit", "../../../../etc/passwd"),
        ("commit", "b" * 39),
        ("commit", "B" * 40),
        ("commit", None),
        ("manifest_sha256", "../" * 20 + "etc"),
        ("manifest_sha256", "2" * 64 + "\n"),
        ("manifest_sha256", ""),
        ("weight", 0),
        ("weight", True),
        ("weight", 10_001),
        ("version", "v0"),
        ("version", "v-1"),
        ("version", "v\u0663"),
        ("version", "v1_0"),
        ("version", None),
    ],
)
def test_a_target_that_is_no_version_is_refused(side: str, field: str, value: Any) -> None:
    document = json.loads(MARKER.canonical())
    document[side][0][field] = value
    with pytest.raises(Tampered, match="acme/support"):
        Marker.parse(json.dumps(document).encode(), SUPPORT)


@pytest.mark.parametrize(
    "change",
    [
        {"at": "0001-01-01T00:00:00+23:59"},
        {"at": "9999-12-31T23:59:59-23:59"},
        {"at": "2026-11-01T12:00:00"},
        {"to": [json.loads(MARKER.canonical())["to"][0]] * 9},
        {"to": {}},
        {"action": "delete"},
        {"schema": 2},
    ],
)
def test_a_marker_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    document = json.loads(MARKER.canonical()) | change
    with pytest.raises(Tampered, match=r"marker"):
        Marker.parse(json.dumps(document).encode(), SUPPORT)
