"""An engine's process follows the server's."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from support.processes import command, runs
from support.served import HOTSHOE

from hotshoe.serve.following import FollowingServer, follow_server

SERVER = """
import multiprocessing, os, sys, time

from hotshoe.serve.following import FollowingServer

def engine(ready, following):
    ready.set()
    time.sleep(120)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    os.environ["HOTSHOE_SERVER"] = sys.argv[1] or str(os.getpid())
    child = spawn.Process(target=engine, args=(ready, FollowingServer()))
    child.start()
    if sys.argv[1] == "":
        ready.wait()
    print(child.pid, flush=True)
    time.sleep(120)
"""


def run(folder: Path, server: str = "") -> tuple[subprocess.Popen[str], psutil.Process]:
    script = folder / "server.py"
    script.write_text(SERVER)
    process = subprocess.Popen([sys.executable, str(script), server], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))


def test_an_engine_ends_with_its_server(tmp_path: Path) -> None:
    server, engine = run(tmp_path)
    with server:
        server.kill()
        engine.wait(timeout=10)


def test_an_engine_whose_server_was_gone_before_it_could_look_ends_too(tmp_path: Path) -> None:
    server, engine = run(tmp_path, "999999999")  # Not its parent, as if another had adopted it.
    with server:
        server.kill()
        engine.wait(timeout=10)


def test_a_process_that_is_no_engines_follows_nobody() -> None:
    before = threading.active_count()

    follow_server()
    assert pickle.loads(pickle.dumps(FollowingServer())) == {}

    assert threading.active_count() == before


@pytest.mark.engine
@pytest.mark.timeout(300)
def test_a_server_that_is_killed_while_its_engine_is_loading_leaves_no_process(
    tmp_path: Path, tiny_base: Path
) -> None:
    serve = [HOTSHOE, "serve", "--listen", "127.0.0.1:0", "--base", str(tiny_base)]
    environment = {**os.environ, "HOTSHOE_REGISTRY": str(tmp_path / "registry"), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(serve, env=environment, stderr=subprocess.DEVNULL) as server:
        family: list[psutil.Process] = []
        try:
            while not any("prespawn" in command(each) for each in family):
                assert server.poll() is None
                time.sleep(0.05)
                family = psutil.Process(server.pid).children(recursive=True)
        finally:
            server.kill()

        until = time.monotonic() + 120
        while (alive := [each for each in family if runs(each)]) and time.monotonic() < until:
            time.sleep(0.1)
        for each in alive:
            each.kill()
        assert not alive
