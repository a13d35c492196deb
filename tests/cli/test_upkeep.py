"""The verbs that look after a registry."""

from __future__ import annotations

import json
from pathlib import Path

from support.serving import open_shop
from typer.testing import CliRunner

from hotshoe.cli.main import app


def test_verify_tells_a_head_and_asks_for_it_in_the_log(tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop") as shop:
        arguments = ["verify", "--registry", shop.registry.url]
        proof = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
        told = CliRunner().invoke(app, [*arguments, "--head", proof["head"]])
        other = CliRunner().invoke(app, [*arguments, "--head", "0" * 64])
    assert proof["whole"]
    assert f"head: {proof['head']}" in told.stdout
    assert other.exit_code != 0
    assert "its end was cut off" in other.output
