"""The engine's process follows the server's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

SERVER = """
import multiprocessing, sys, time

def engine(ready):
    from hotshoe.serve.lora_cpu.worker import WorkerExtension
    WorkerExtension().hotshoe_follow_server()
    ready.set()
    time.sleep(120)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    child = spawn.Process(target=engine, args=(ready,))
    child.start()
    ready.wait()
    print(child.pid, flush=True)
    time.sleep(120)
"""


def test_the_engine_outlives_an_interrupt_but_not_its_server(tmp_path: os.PathLike[str]) -> None:
    script = os.path.join(tmp_path, "server.py")
    with open(script, "w") as file:
        file.write(SERVER)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        engine = psutil.Process(int(server.stdout.readline()))
        engine.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert engine.is_running()

        server.kill()

        engine.wait(timeout=10)
