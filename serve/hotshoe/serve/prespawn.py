"""The process of an engine, started before anybody knows what it will run: it imports while the server does.

multiprocessing spawns it, only in two steps: here it begins, later it is told what to run.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import popen_spawn_posix, reduction, resource_tracker, spawn, util
from multiprocessing.context import set_spawning_popen
from multiprocessing.process import BaseProcess

from hotshoe.serve.following import SERVER, follow_server
from hotshoe.serve.vllm_config import environment

CORE = "EngineCore"
"""What vLLM calls the process that it spawns for its engine."""

MODULES = ("vllm.v1.engine.core", "vllm.v1.executor.uniproc_executor", "vllm.v1.worker.gpu_worker")
"""What vLLM imports in its core on any platform, in its order: it misses kernels where ours come before."""

_LENGTH_BYTES = 8

log = logging.getLogger(__name__)


class Prespawned:
    """A process that imports what an engine needs and waits; `lent` gives it to whoever spawns an engine.

    threads: as in VllmConfig. modules: what it imports, in this order. Raises OSError where no process
    can be started.
    """

    def __init__(self, threads: int, modules: tuple[str, ...] = MODULES) -> None:
        self.sentinel, alive = os.pipe()
        told, self._teller = os.pipe()
        command = [spawn.get_executable(), *util._args_from_interpreter_flags()]  # type: ignore[attr-defined]
        # With -c alone, the working directory's modules would come before the installed ones.
        code = f"import sys; sys.path[:] = {sys.path}; from hotshoe.serve.prespawn import main; "
        try:
            with environment(threads):
                # It starts here if it has not yet, and reads what it need not warn about.
                tracker = resource_tracker.getfd()
                command += ["-c", f"{code}main({told}, {tracker}, {modules})", "--multiprocessing-fork"]
                self._preloaded = os.environ.get("LD_PRELOAD")
                self.pid: int = util.spawnv_passfds(command[0], command, [told, alive, tracker])  # type: ignore[list-item]
        except BaseException:
            self.forget()
            raise
        finally:
            os.close(told)
            os.close(alive)
        self._waits = True

    def still_waits(self) -> bool:
        """Whether it lives and nobody had use of it yet."""
        if self._waits and os.waitpid(self.pid, os.WNOHANG) != (0, 0):
            self._waits = False  # It died meanwhile.
            self.forget()
        return self._waits

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Within the block, what multiprocessing spawns by the name of `CORE` runs in this process.

        If it is of no use for that, it ends with the block.
        """
        spawned = popen_spawn_posix.Popen

        def popen(process: BaseProcess) -> popen_spawn_posix.Popen:
            return _Told(process, self) if process.name == CORE and self._fits() else spawned(process)

        popen_spawn_posix.Popen = popen  # type: ignore[misc,assignment]
        try:
            yield
        finally:
            popen_spawn_posix.Popen = spawned  # type: ignore[misc]
            self.close()

    def tell(self, what: bytes) -> None:
        """Have it run this, in this process's environment of now. It is then no longer ours to end."""
        self._waits = False
        variables = pickle.dumps(dict(os.environ))
        # One that died is noticed by its sentinel.
        with contextlib.suppress(BrokenPipeError), open(self._teller, "wb", closefd=False) as teller:
            teller.write(len(variables).to_bytes(_LENGTH_BYTES, "big") + variables + what)

    def close(self) -> None:
        """End it if it still waits."""
        if self._waits:
            self._waits = False
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.forget()

    def _fits(self) -> bool:
        # Libraries can't be loaded first any more where others are wanted by now.
        return self.still_waits() and os.environ.get("LD_PRELOAD") == self._preloaded

    def forget(self) -> None:
        """Close what it is heard and told by."""
        os.close(self.sentinel)
        os.close(self._teller)


@contextlib.contextmanager
def prespawned(threads: int) -> Iterator[Prespawned | None]:
    """A process that waits until the block ends; None where none can be started, for it only saves time."""
    try:
        early = Prespawned(threads)
    except OSError as error:
        log.warning("the engine's process could not be started early: %s", error)
        yield None
        return
    with contextlib.closing(early):
        yield early


class _Told(popen_spawn_posix.Popen):
    """What multiprocessing knows of a process that it spawned, for one that was there already."""

    _fds: list[int]

    def __init__(self, process: BaseProcess, early: Prespawned) -> None:
        self._early = early
        super().__init__(process)

    def _launch(self, process: BaseProcess) -> None:
        what = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process.name), what)
            reduction.dump(process, what)
        finally:
            set_spawning_popen(None)
        if self._fds:  # It is to inherit descriptors, and was born without.
            self._fds = []
            super()._launch(process)  # type: ignore[misc]
            return
        self.pid, self.sentinel = self._early.pid, self._early.sentinel
        self.finalizer = util.Finalize(self, self._early.forget)
        self._early.tell(what.getvalue())


def main(told: int, tracker: int, modules: tuple[str, ...]) -> None:
    """In the process: import, wait, become what is told. told, tracker: descriptors it was started with."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal's Ctrl-C reaches it too; the server drains.
    follow_server()
    with imports_hastened():
        for module in modules:
            importlib.import_module(module)
    with open(told, "rb", buffering=0, closefd=False) as telling:
        length = int.from_bytes(_exactly(telling.read, _LENGTH_BYTES), "big")
        variables = pickle.loads(_exactly(telling.read, length))
    _become(variables | {SERVER: str(os.getpid())})  # It follows the server already.
    spawn.spawn_main(pipe_handle=told, tracker_fd=tracker)


@contextlib.contextmanager
def imports_hastened() -> Iterator[None]:
    """Look for no garbage within the block, nor later in what there is by then: imports make hardly any.

    Looking takes a fifth of their time, and half a second each time that it is done again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _become(variables: Mapping[str, str]) -> None:
    """Make this the environment."""
    # vLLM names the process with it, if it is there, and it finds no place for the name any more once the
    # environment it was started with has changed.
    with contextlib.suppress(ImportError):
        importlib.import_module("setproctitle").getproctitle()
    os.environ.clear()
    os.environ.update(variables)


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (piece := read(size - len(data))):
            sys.exit(1)  # The server is gone.
        data += piece
    return data
