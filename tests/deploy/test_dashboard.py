"""The dashboard asks only for what there is to be told."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from support.serving import echo_server

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/hotshoe.json"


def queries() -> list[str]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


async def test_every_series_of_ours_exists(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as served:
        families = list(served.telemetry.metrics.registry.collect())
    known = {name for family in families for name in (family.name, f"{family.name}_total")}
    asked = {name for query in queries() for name in re.findall(r"\bhotshoe_\w+", query)}
    assert asked
    assert {name.removesuffix("_bucket") for name in asked} <= known


def test_every_series_of_vllm_exists_in_its_sources() -> None:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    sources = "".join(path.read_text() for path in (Path(spec.origin).parent / "v1/metrics").glob("*.py"))
    asked = {name for query in queries() for name in re.findall(r"vllm:\w+", query)}
    assert asked
    assert all(f'"{name.removesuffix("_total")}"' in sources for name in asked)


def test_panels_have_ids_of_their_own_and_say_what_they_are_for() -> None:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels if panel["type"] != "row")
