"""What the settings pin is loaded before anybody asks, follows its alias, and survives what goes wrong."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from support.adapters import SUPPORT
from support.serving import Served, echo_server

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.settings import read_settings


def pinned(served: Served) -> set[str]:
    return {f"{each.adapter}@{each.version}" for each in served.pool.residency() if each.pinned}


async def until_pinned(served: Served, wanted: set[str]) -> None:
    async with asyncio.timeout(10):
        while pinned(served) != wanted:
            await asyncio.sleep(0.05)


async def test_what_is_pinned_is_loaded_before_the_server_answers(tmp_path: Path) -> None:
    async with echo_server(tmp_path, pin=("acme/support@prod", "globex/legal@v1")) as served:
        assert pinned(served) == {"acme/support@v1", "globex/legal@v1"}
        assert len(served.pool.resident()) == 2


async def test_a_pin_follows_its_alias_and_a_pin_by_version_stays(tmp_path: Path) -> None:
    async with echo_server(tmp_path, pin=("acme/support", "acme/support@v2")) as served:
        assert pinned(served) == {"acme/support@v1", "acme/support@v2"}
        served.registry.promote(SUPPORT, "prod", 2)
        await until_pinned(served, {"acme/support@v2"})
        served.registry.rollback(SUPPORT, "prod")
        await until_pinned(served, {"acme/support@v1", "acme/support@v2"})


async def test_all_sides_of_a_split_are_pinned(tmp_path: Path) -> None:
    async with echo_server(tmp_path, pin=("acme/support",)) as served:
        served.registry.split(SUPPORT, "prod", {1: 50, 2: 50})
        await until_pinned(served, {"acme/support@v1", "acme/support@v2"})


async def test_a_pin_that_cannot_be_kept_is_told_and_keeps_nobody_from_being_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with echo_server(tmp_path, pin=("acme/nothing", "globex/legal")) as served:
            assert pinned(served) == {"globex/legal@v1"}
    assert any("acme/nothing is to stay loaded, and cannot be" in each for each in caplog.messages)


def test_pins_are_read_from_the_settings_and_nonsense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('base = "tiny"\npin = ["acme/support@prod", "globex/legal"]\n')
    assert ServeConfig(**read_settings(path)).pin == ("acme/support@prod", "globex/legal")
    path.write_text('base = "tiny"\npin = "acme/support"\n')
    with pytest.raises(InvalidConfig, match=r"pin is 'acme/support': write a list"):
        read_settings(path)
    with pytest.raises(InvalidConfig, match=r"pin: .*no such thing"):
        ServeConfig(base="tiny", pin=("no such thing",))
