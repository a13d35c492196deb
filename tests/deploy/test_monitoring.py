"""The dashboard and the alerts ask only for what there is to be told."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import Metric
from promql_parser import VectorSelector
from support.certificates import Authority
from support.serving import echo_server

from hotshoe.adapter import errors
from hotshoe.serve.tls import TlsFiles
from hotshoe.wire.admin import What

DEPLOY = Path(__file__).parents[2] / "deploy"
OUTCOMES = {"OK"} | {
    each.reason
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.HotshoeError)
}
LABEL_VALUES = {
    "outcome": OUTCOMES,
    "reason": OUTCOMES,
    "why": {each.value for each in What},
    "kind": {"prompt", "cached", "output"},
}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DEPLOY / "grafana/hotshoe.json").read_text())["panels"]
    return found


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def selectors(query: str) -> list[VectorSelector]:
    """Every choice of series in a query; raises ValueError for one that Prometheus would refuse."""
    found: list[VectorSelector] = []

    def enter(part: promql_parser.Expr) -> bool:
        if isinstance(part, VectorSelector):
            found.append(part)
        return True

    # Grafana puts a time there.
    promql_parser.walk(promql_parser.parse(query.replace("$__rate_interval", "1m")), enter)
    return found


def queries() -> list[str]:
    asked = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    return asked + [alert["expr"] for alert in alerts()]


@pytest.mark.parametrize("query", queries())
def test_a_query_is_one_and_its_labels_take_such_values(query: str) -> None:
    chosen = selectors(query)
    assert chosen
    for matcher in (each for selector in chosen for each in selector.matchers.matchers):
        known = LABEL_VALUES.get(matcher.name)
        assert known is None or matcher.value in known


async def test_every_series_of_ours_exists(tmp_path: Path) -> None:
    pair = Authority(tmp_path / "certificates").sign("server")
    async with echo_server(tmp_path, tls=TlsFiles(pair.certificate, pair.key)) as served:
        families = list(served.telemetry.metrics.registry.collect())
    known = {name for family in families for name in names(family)}
    asked = {each.name for query in queries() for each in selectors(query)}
    ours = {name for name in asked if name and name.startswith("hotshoe_")}
    assert ours
    assert ours <= known


def names(family: Metric) -> set[str]:
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    return {family.name + end for end in ends.get(family.type, ("",))}


def test_every_series_of_vllm_exists_in_its_sources() -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    sources = "".join(path.read_text() for path in (Path(spec.origin).parent / "v1/metrics").glob("*.py"))
    asked = {name for query in queries() for name in re.findall(r"vllm:\w+", query)}
    assert asked
    assert all(f'"{name.removesuffix("_total")}"' in sources for name in asked)


def test_panels_have_ids_of_their_own_and_say_what_they_are_for() -> None:
    assert len({panel["id"] for panel in panels()}) == len(panels())
    assert all(panel["description"] for panel in panels() if panel["type"] != "row")


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    page = (DEPLOY.parent / "docs/operating.md").read_text()
    runbooks = set(re.findall(r"^### (Hotshoe\w+)$", page, re.MULTILINE))
    assert runbooks == {alert["alert"] for alert in alerts()}
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/operating.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in ("page", "ticket")
