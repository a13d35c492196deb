"""The receiver of the Hub's webhooks: who says that a repo's refs moved, checked and passed on.

The Hub sends the secret verbatim in `X-Webhook-Secret`. What a webhook says is never believed beyond
"look at this adapter": the refs are then read from the Hub, so a forged one costs a request and no more.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any

from hotshoe.adapter.errors import AddressInUse, InvalidConfig, InvalidReference
from hotshoe.adapter.reference import AdapterName

SECRET_VARIABLE = "HOTSHOE_WEBHOOK_SECRET"
MAX_PAYLOAD_BYTES = 1 << 20
MIN_SECRET_CHARACTERS = 16

AT_ONCE = 64
"""Connections that are served at a time; who comes beyond that is hung up on, and the next poll finds it."""

_READ_SECONDS = 5.0
_log = logging.getLogger(__name__)


def moved_adapter(payload: object) -> AdapterName | None:
    """The adapter whose refs a payload says moved; None for events of other kinds and other repos."""
    if not isinstance(payload, Mapping) or not payload.get("updatedRefs"):
        return None
    repo = payload.get("repo")
    if not isinstance(repo, Mapping) or repo.get("type") != "model":
        return None
    try:
        return AdapterName.parse(str(repo.get("name")))
    except InvalidReference:
        return None


class WebhookReceiver:
    """An HTTP server that takes webhooks on any path, from `start` (or `with`) to `stop`.

    on_move: called with the adapter, on a thread of the receiver, before the Hub gets its answer.
    Raises InvalidConfig for a secret that is too short, AddressInUse.
    """

    def __init__(
        self, secret: str, on_move: Callable[[AdapterName], None], *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        if len(secret) < MIN_SECRET_CHARACTERS or not secret.isascii():
            raise InvalidConfig(
                f"the webhook secret must be {MIN_SECRET_CHARACTERS} or more ASCII characters: make one with "
                f"`openssl rand -hex 32`, set {SECRET_VARIABLE} to it, and give it to the Hub too"
            )
        try:
            self._server = _Server((host, port), secret.encode(), on_move)
        except OSError as error:
            raise AddressInUse(f"webhooks cannot be taken on {host}:{port}: {error.strerror}") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="webhooks", daemon=True
        )

    @property
    def address(self) -> str:
        """`host:port` that it listens on."""
        return f"{self._server.server_name}:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Take no more; returns when the port is free."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> WebhookReceiver:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = AT_ONCE

    def __init__(
        self, address: tuple[str, int], secret: bytes, on_move: Callable[[AdapterName], None]
    ) -> None:
        self.secret = secret
        self.on_move = on_move
        self._places = threading.BoundedSemaphore(AT_ONCE)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name server who it is.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Not socketserver's, which prints a traceback for every line that breaks.
        _log.warning(
            "a webhook from %s broke off", client_address[0], exc_info=_log.isEnabledFor(logging.DEBUG)
        )


class _Handler(BaseHTTPRequestHandler):
    """One request: secret, size, content; each refusal has its own status."""

    server: _Server
    timeout = _READ_SECONDS
    server_version = "hotshoe"
    sys_version = ""

    def do_POST(self) -> None:
        self.send_response_only(self._take())
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _take(self) -> int:
        given = self.headers.get("X-Webhook-Secret", "").encode("utf-8", "replace")
        # In constant time, so that the secret cannot be guessed one character after the other.
        if not hmac.compare_digest(given, self.server.secret):
            _log.warning("a webhook from %s had a wrong secret", self.client_address[0])
            return 401
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return 411
        if int(length) > MAX_PAYLOAD_BYTES:
            return 413
        try:
            payload: Any = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            return 400
        if adapter := moved_adapter(payload):
            self.server.on_move(adapter)
        return 204

    def log_message(self, format: str, *args: object) -> None:
        """Silent, but for what `_take` says: a request's own words have no place in a log."""
