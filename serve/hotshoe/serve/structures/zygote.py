"""The process that the others are forked from: it has loaded the library and the base's vocabulary.

Started as `python -m hotshoe.serve.structures.zygote FD`, FD a socket to the engine's process. It forks for
each socket that comes over it, and ends with the engine's process, whatever ends that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys

from hotshoe.serve.structures.limits import FIRST_NICENESS, MEMORY_BYTES
from hotshoe.serve.structures.matching import serve, tokenizer_info
from hotshoe.serve.structures.messages import LENGTH_BYTES, READY

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Load what there is to load, say so, then fork until the engine's process is gone."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # A terminal's Ctrl-C reaches every process; the server drains before it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for them.
    os.nice(FIRST_NICENESS)
    info = tokenizer_info(_received(control))
    control.sendall(READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not message:
            return
        # Where there can be no more processes, that the channel is closed tells the engine's process so.
        child = None
        with contextlib.suppress(OSError):
            child = os.fork()
        if child == 0:
            control.close()
            _confine()
            serve(socket.socket(fileno=descriptors[0]), info)
            os._exit(0)
        os.close(descriptors[0])


def _confine() -> None:
    """Take no more than one structure may take, and end with the zygote."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with open("/proc/self/status") as status:
        data = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + MEMORY_BYTES, data + MEMORY_BYTES))
    # Where the machine has no memory left, it is this that goes, not the engine.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The library prints what it thinks of a grammar; whoever sent that shall not fill the server's log.
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def _received(control: socket.socket) -> str:
    size = int.from_bytes(_exactly(control, LENGTH_BYTES), "big")
    return _exactly(control, size).decode()


def _exactly(control: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        if not (piece := control.recv(min(size - len(data), 1 << 20))):
            sys.exit()  # The engine is gone.
        data += piece
    return bytes(data)


if __name__ == "__main__":
    main()
