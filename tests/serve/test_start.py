"""From a configuration to an engine, and a start that is called off."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from support.recorder import BASE

from hotshoe.adapter.errors import EngineUnavailable
from hotshoe.registry import BaseModel
from hotshoe.serve.config import RANKS, ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.engine import Engine
from hotshoe.serve.start import engine_config, started


def test_every_configuration_that_is_taken_makes_an_engine(tmp_path: Path) -> None:
    base = BaseModel(tmp_path, BASE)
    for changes in ({"sequences": 1}, {"sequences": 5000}, *({"max_rank": rank} for rank in RANKS)):
        config = engine_config(ServeConfig(base="b", **changes), base)  # type: ignore[arg-type]
        assert config.step_tokens >= config.max_sequences
        assert config.slot_rank == config.max_rank


async def test_an_engine_that_is_up_is_given_out() -> None:
    engine = EchoEngine(BASE)

    async def start() -> Engine:
        return engine

    assert await started(start) is engine


async def test_sigterm_before_the_engine_is_up_calls_its_start_off() -> None:
    called_off = False

    async def start() -> Engine:
        nonlocal called_off
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            called_off = True
            raise
        raise AssertionError

    assert await asyncio.wait_for(started(start), 5) is None
    assert called_off


async def test_a_start_that_fails_says_why() -> None:
    async def start() -> Engine:
        raise EngineUnavailable("no memory")

    with pytest.raises(EngineUnavailable, match="no memory"):
        await started(start)
