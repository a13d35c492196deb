"""A Hub on loopback that the real huggingface_hub client can work with, and that can misbehave.

    with HubServer() as hub:
        api = HfApi(endpoint=hub.url, token=hub.token)

Files in LFS are redirected to a second host name (`localhost`), as the real Hub does to its CDN, so that a
token that follows the redirect is noticed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, cast

from support.hub import content, http, repos  # noqa: F401 (two of them for their routes)
from support.hub.routing import dispatch
from support.hub.state import Repo, User


class HubServer:
    """The server, its state, what it was asked (`requests`), and how it is to fail."""

    token = "hf_writer"

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.users = {
            self.token: User("ada", frozenset({"acme", "globex"})),
            "hf_reader": User("bob", frozenset({"acme"}), may_write=False),
            "hf_stranger": User("eve", frozenset()),
        }
        self.page_size = 50
        self.requests: list[http.Request] = []
        self.webhook_payloads: list[dict[str, Any]] = []
        self._faults: list[http.Fault] = []
        self._state = threading.Lock()
        self._busy = 0
        self._idle = threading.Condition()
        self._server = _Listener(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def cdn_url(self) -> str:
        return f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    # What the tests ask of it.

    def count(self) -> int:
        """How many requests came so far."""
        return len(self.requests)

    def fail(
        self, method: str, path: str, status: int, *, times: int = 1, headers: dict[str, str] | None = None
    ) -> None:
        """Refuse the next `times` matching requests with this status; nothing is done for them."""
        refusal = http.Response.of({"error": f"told to answer {status}"}, status, headers)
        self._faults.append(http.Fault(method, path, times, before=lambda _: refusal))

    def bend(
        self, method: str, path: str, change: Callable[[http.Response], http.Response], *, times: int = 1
    ) -> None:
        """Do what is asked, then send a changed answer: `http.lost`, `cut`, `shortened` or `flipped`."""
        self._faults.append(http.Fault(method, path, times, after=change))

    def hang_before(self, method: str, path: str, *, times: int = 1) -> None:
        """Close the connection without doing anything."""
        dropped = http.Response(drop=0)
        self._faults.append(http.Fault(method, path, times, before=lambda _: dropped))

    def slow(self, method: str, path: str, seconds: float, *, times: int = 1) -> None:
        """Wait before answering."""
        self._faults.append(http.Fault(method, path, times, seconds=seconds))

    def interleave(self, method: str, path: str, act: Callable[[], object]) -> None:
        """Run `act` just before the next matching request is done: somebody else was faster."""

        def before(request: http.Request) -> http.Response:
            act()
            return self._answer(request)

        self._faults.append(http.Fault(method, path, 1, before=before))

    def settle(self, seconds: float = 10.0) -> None:
        """Wait until nothing is being done any more, for clients that went away too."""
        with self._idle:
            assert self._idle.wait_for(lambda: self._busy == 0, seconds), "the Hub is still at work"

    def deliver(self, url: str, secret: str) -> list[int]:
        """Send the pending webhooks to `url`, as the Hub would; return the statuses answered."""
        statuses = []
        pending, self.webhook_payloads = self.webhook_payloads, []
        for payload in pending:
            headers = {"Content-Type": "application/json", "X-Webhook-Secret": secret}
            request = urllib.request.Request(url, json.dumps(payload).encode(), headers, method="POST")
            with contextlib.closing(_open(request)) as response:
                statuses.append(response.status)
        return statuses

    # What the handler and the routes ask of it.

    def handle(self, request: http.Request) -> http.Response:
        """Answer a request, bent by the first fault that takes it."""
        with self._idle:
            self._busy += 1
            self.requests.append(request)
            fault = next((fault for fault in self._faults if fault.takes(request)), None)
        try:
            if fault is None:
                return self._answer(request)
            time.sleep(fault.seconds)
            response = fault.before(request) if fault.before else self._answer(request)
            return fault.after(response) if fault.after else response
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _answer(self, request: http.Request) -> http.Response:
        with self._state:
            return dispatch(self, request)

    def moved(self, repo: Repo, ref: str, before: str | None, after: str | None) -> None:
        self.webhook_payloads.append(
            {
                "event": {"action": "update", "scope": "repo.content"},
                "repo": {"type": "model", "name": repo.name, "id": "1", "private": repo.private},
                "webhook": {"id": "1", "version": 3},
                "updatedRefs": [{"ref": ref, "oldSha": before, "newSha": after}],
            }
        )


def _open(request: urllib.request.Request) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=5)
    except urllib.error.HTTPError as refused:
        return refused


class _Listener(ThreadingHTTPServer):
    """Keeps its open connections, to close them at the end: clients hold them alive."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, hub: HubServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away is no news; a mistake of the routes is.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, writes the response; all thinking is elsewhere."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        request = http.Request(self.command, self.path, headers, self._body(headers))
        response = cast(_Listener, self.server).hub.handle(request)
        if response.drop == 0:
            self.close_connection = True
            return
        self.send_response(response.status)
        for key, value in response.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body[: response.drop])
        self.close_connection = self.close_connection or response.drop is not None

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 (http.server's names)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length", "0")))
        body = bytearray()
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: tests look at `HubServer.requests`."""
