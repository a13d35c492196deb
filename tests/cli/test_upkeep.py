"""The verbs that look after a registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.serving import open_shop
from typer.testing import CliRunner

from hotshoe.cli.main import app


def test_verify_tells_a_head_and_asks_for_it_in_the_log(tmp_path: Path) -> None:
    with open_shop(tmp_path / "shop") as shop:
        arguments = ["verify", "--registry", shop.registry.url]
        proof = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
        told = CliRunner().invoke(app, [*arguments, "--head", proof["head"]])
        other = CliRunner().invoke(app, [*arguments, "--head", "0" * 64])
        none = CliRunner().invoke(app, [*arguments, "--head", proof["head"][:12]])
    assert proof["whole"]
    assert f"head: {proof['head']}" in told.stdout
    assert other.exit_code != 0
    assert "its end was cut off" in other.output
    assert none.exit_code == 2, "not to be taken for a log that was cut off"


@pytest.mark.parametrize(("flags", "shown"), [((), True), (("--json",), False)])
def test_verify_shows_on_a_terminal_how_far_it_is(
    tmp_path: Path, flags: tuple[str, ...], shown: bool
) -> None:
    with open_shop(tmp_path / "shop") as shop:
        arguments = ["verify", "--registry", shop.registry.url, *flags]
        as_on_a_terminal = CliRunner().invoke(app, arguments, env={"FORCE_COLOR": "1"})
        piped = CliRunner().invoke(app, arguments)
    assert as_on_a_terminal.exit_code == 0
    assert ("100 %" in as_on_a_terminal.stderr) is shown
    assert "%" not in as_on_a_terminal.stdout + piped.output


def test_verify_asks_back_where_nothing_was_ever_published(tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["verify", "--registry", str(tmp_path / "mistyped")])
    assert told.exit_code == 0
    assert "nothing was ever published there; is that the registry you mean?" in told.stdout
