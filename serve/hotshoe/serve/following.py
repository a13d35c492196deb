"""An engine's process follows its server's: it lives no longer, whatever ends the server."""

from __future__ import annotations

import multiprocessing
import os
import threading

SERVER = "HOTSHOE_SERVER"
"""The environment variable with the server's process id, for the processes of its engine."""

_THREAD = "end with the server"


def follow_server() -> None:
    """In a process of an engine, end it with its parent; elsewhere, and a second time, do nothing.

    A server that is killed tells nobody, and its engine would wait for requests for ever. The pipe that is
    watched is there from a process's first moment, so a server that is gone already is seen as well.
    """
    parent = multiprocessing.parent_process()
    of_engine = os.environ.get(SERVER, str(os.getpid())) != str(os.getpid())
    if parent is None or not of_engine or any(each.name == _THREAD for each in threading.enumerate()):
        return
    threading.Thread(target=_end_with, args=(parent,), name=_THREAD, daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
