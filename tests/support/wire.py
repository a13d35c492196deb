"""A network that breaks without a word."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

_LOOK_SECONDS = 0.02


class Wire:
    """Carries TCP connections to an address. When `cut`, nothing gets through and nobody is told.

    A thread of its own does so, with sockets that it closes itself: none is left to a loop that ends.
    """

    def __init__(self) -> None:
        self.address = ""
        self._cut = threading.Event()
        self._over = threading.Event()

    def cut(self) -> None:
        self._cut.set()

    @contextlib.contextmanager
    def to(self, address: str) -> Iterator[None]:
        """Lead to `address` until the block ends."""
        host, port = address.split(":")
        with socket.create_server(("127.0.0.1", 0)) as entrance:
            self.address = "{}:{}".format(*entrance.getsockname())
            thread = threading.Thread(target=self._carry, args=(entrance, (host, int(port))))
            thread.start()
            try:
                yield
            finally:
                self._over.set()
                thread.join()

    def _carry(self, entrance: socket.socket, far: tuple[str, int]) -> None:
        with contextlib.ExitStack() as opened, selectors.DefaultSelector() as selector:
            selector.register(entrance, selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in selector.select(_LOOK_SECONDS):
                    end = key.fileobj
                    assert isinstance(end, socket.socket)
                    if end is entrance:
                        pair = (entrance.accept()[0], socket.create_connection(far))
                        for one, other in (pair, pair[::-1]):
                            selector.register(opened.enter_context(one), selectors.EVENT_READ, other)
                    elif self._cut.is_set():
                        selector.unregister(end)
                    else:
                        self._pass_on(selector, end, key.data)

    @staticmethod
    def _pass_on(selector: selectors.BaseSelector, end: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if data := end.recv(1 << 16):
                other.sendall(data)
                return
        selector.unregister(end)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
