"""Finding adapters."""

from __future__ import annotations

import pytest

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.search import MetricTest, Query, search
from hotshoe.registry.values import AdapterSummary

SUPPORT = AdapterSummary(
    AdapterName("acme", "support"),
    3,
    3,
    {"prod": "v2"},
    "HuggingFaceTB/SmolLM2-135M",
    {"exact": 0.9},
    ("mail", "de"),
)
LEGAL = AdapterSummary(AdapterName("globex", "legal"), 1, 1, {}, "Qwen/Qwen3", {"exact": 0.4}, ())
DRAFT = AdapterSummary(AdapterName("acme", "draft"), 1, 1, {"staging": "v1"}, "Qwen/Qwen3")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(), [SUPPORT, LEGAL, DRAFT]),
        (Query(org="acme"), [SUPPORT, DRAFT]),
        (Query(base="qwen"), [LEGAL, DRAFT]),
        (Query(tag="mail"), [SUPPORT]),
        (Query(alias="staging"), [DRAFT]),
        (Query(metric=MetricTest.parse("exact>=0.4")), [SUPPORT, LEGAL]),
        (Query(metric=MetricTest.parse("exact > 0.4")), [SUPPORT]),
        (Query(metric=MetricTest.parse("exact<5e-1"), org="acme"), []),
        (Query(org="acme", alias="prod"), [SUPPORT]),
    ],
)
def test_only_what_matches_all_that_is_asked_is_found(query: Query, found: list[AdapterSummary]) -> None:
    assert search([SUPPORT, LEGAL, DRAFT], query) == found


@pytest.mark.parametrize("text", ["", "exact", "exact>=", ">=3", "exact>=high", "a>=1>=2", "x=1.2.3"])
def test_what_is_no_test_of_a_metric_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"exact>=0\.9"):
        MetricTest.parse(text)
