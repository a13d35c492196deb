"""A server process as an operator starts it, with the real engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

HOTSHOE = str(Path(sys.executable).with_name("hotshoe"))
START_SECONDS = 240
STOP_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A process that answers at `address`, since `ready_at` (seconds of the clock); its log is in `log`."""

    address: str
    process: subprocess.Popen[str]
    log: Path
    ready_at: float

    def children(self) -> list[psutil.Process]:
        """Every process under it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self) -> int:
        """Drain and end; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


@contextlib.contextmanager
def hotshoe_serve(folder: Path, *arguments: str, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run `hotshoe serve` until the block ends; whatever happens, no process stays."""
    log = folder / "server.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [HOTSHOE, "serve", "--listen", "127.0.0.1:0", "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        )
        family: list[psutil.Process] = []
        try:
            address = _address(process, log)
            yield Server(address, process, log, ready_at=time.time())
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(process.pid).children(recursive=True)
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
            process.kill()
            process.communicate()
            _, alive = psutil.wait_procs(family, timeout=5)
            for each in alive:
                each.kill()
            assert not alive, f"{alive} outlived their server"


def hotshoe(*arguments: str | Path, environment: Mapping[str, str]) -> str:
    """Run a verb; what it prints."""
    done = subprocess.run(
        [HOTSHOE, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        with contextlib.suppress(ValueError):
            return str(json.loads("".join(lines))["address"])
    raise AssertionError(f"the server ended before it was ready:\n{log.read_text()[-4000:]}")
