"""How long the command takes before it does anything."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness import Arm, Group, Row, Sample, at_most, in_turns

ROUNDS = 15
HOTSHOE = str(Path(sys.executable).with_name("hotshoe"))


async def measure(rounds: int) -> Group:
    """`python -c pass` takes its turns too: what no command can be faster than."""
    with tempfile.TemporaryDirectory() as registry, tempfile.TemporaryDirectory() as bytecode:
        run = functools.partial(_run, environment=_compiling(bytecode))
        arms: dict[str, Arm] = {
            "python": functools.partial(run, sys.executable, "-c", "pass"),
            "hotshoe --help": functools.partial(run, HOTSHOE, "--help"),
            "hotshoe list": functools.partial(run, HOTSHOE, "list", "--registry", registry),
        }
        series = await in_turns(arms, rounds)
    loads_torch = await _imports("torch")
    rows = [
        Row(
            what=f"`{arm}`",
            figures={"CPU ms": series.spread(arm, "CPU ms"), "python itself": series.spread("python", "ms")},
            unit="ms",
            result=series.spread(arm, "ms"),
            result_unit="ms",
            goal=at_most(150),
            note="it imports torch" if loads_torch else "no torch imported",
        )
        for arm in ("hotshoe --help", "hotshoe list")
    ]
    return Group(
        name="cli",
        title="The command's start",
        setting="From fork to exit, output thrown away; compiled, as an installed package is.",
        rows=rows,
    )


def _compiling(folder: str) -> dict[str, str]:
    """This environment, but that the first run leaves its bytecode for the others."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": folder}


async def _run(*command: str, environment: Mapping[str, str]) -> Sample:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, env=environment
    )
    if await process.wait() != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"ms": (time.monotonic() - began) * 1000, "CPU ms": spent * 1000}


async def _imports(module: str) -> bool:
    code = f"import sys, hotshoe.cli.main; sys.exit({module!r} in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=dict(os.environ))
    return await process.wait() != 0
