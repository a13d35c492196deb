"""A soak short enough for every day: the same as `make soak`, so that neither it nor the server rots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from soak.record import SWAPPED
from soak.soak import Plan, soak
from soak.verdict import as_json
from soak.view import show_result

SHORT = Plan(
    seconds=25,
    seed=7,
    candidates=6,
    answer_tokens=48,
    kills_until=0.3,
    between_kills=(3, 4),
    between_moves=(0.1, 1),
    between_tenant_changes=(1, 4),
    between_orders=(0.5, 2),
)


@pytest.mark.engine
async def test_under_load_and_chaos_every_promise_is_kept(tmp_path: Path) -> None:
    console = Console(record=True, width=150)

    result = await soak(SHORT, tmp_path, console)

    show_result(result.record, result.checks, console)
    assert result.kept, console.export_text()
    record = result.record
    assert record.outcomes["by alias", "OK"] > 20
    assert record.outcomes["a bad version", "UNSERVABLE"] + record.outcomes["a bad version", "TAMPERED"]
    assert record.done["kill -9 the engine"] + record.done["kill -9 a helper process"]
    assert record.figures[SWAPPED]
    assert record.tokens > 1000
    assert json.loads(json.dumps(as_json(record, result.watch, result.checks)))["kept"] is True
