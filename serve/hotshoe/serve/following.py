"""An engine's process follows its server's: it lives no longer, whatever ends the server."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

SERVER = "HOTSHOE_SERVER"
"""The environment variable with the server's process id, for the processes of its engine."""

LOOK_SECONDS = 0.5


def follow_server() -> None:
    """In a process of an engine, end it with its parent; elsewhere, and a second time, do nothing.

    A server that is killed tells nobody, and its engine would wait for requests for ever. One that was
    killed before this process could look is seen as well.
    """
    parent, own = os.environ.get(SERVER), str(os.getpid())
    if parent is None or parent == own:
        return
    os.environ[SERVER] = own  # Processes of ours follow us.
    threading.Thread(target=_end_with, args=(int(parent),), name="end with the server", daemon=True).start()


class FollowingServer(dict[str, object]):
    """An empty dict, but whatever process unpickles it follows its server from then on.

    Spawned processes unpickle what they are given before anything else of theirs runs.
    """

    def __reduce__(self) -> tuple[Callable[[], FollowingServer], tuple[()]]:
        return _arrived, ()


def _arrived() -> FollowingServer:
    follow_server()
    return FollowingServer()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:  # Another process adopts those whose parent ended.
        time.sleep(LOOK_SECONDS)
    os._exit(1)
