"""A version's names."""

from __future__ import annotations

from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version

SUPPORT = AdapterName("acme", "support")


def test_a_version_reads_as_a_reference() -> None:
    assert str(Version(SUPPORT, 7, "0" * 40, "a" * 64)) == "acme/support@v7"


def test_the_engine_name_differs_for_every_content_and_every_adapter() -> None:
    versions = [
        Version(SUPPORT, 1, "0" * 40, "a" * 64),
        Version(SUPPORT, 2, "1" * 40, "b" * 64),
        Version(AdapterName("globex", "support"), 1, "2" * 40, "a" * 64),
    ]
    assert len({each.engine_name for each in versions}) == 3
