"""How Hotshoe speaks HTTP with the Hub: a time limit on every request, and retries where they are safe.

huggingface_hub has one HTTP client for the whole process. This one treats requests that carry Hotshoe's
user agent as written here, and all others as huggingface_hub would.

A request is repeated after 408, 429, 5xx and broken connections, and a commit after 409 (another commit is
in progress), with jitter, and never sooner than the Hub asks. A commit may have happened although its
answer was lost; repeating it is safe because each names its parent: it gets 412, which is never repeated,
and the store looks whether the new head is its own.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from hotshoe.adapter.errors import RegistryUnavailable

AGENT = "hotshoe"

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_BROKEN = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
_RATE_LIMIT = re.compile(r'"\w+"\s*;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)')

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """connect and read: of one attempt, between two bytes. patience: from the first attempt to the last.

    unreachable_attempts: where not even a connection comes about, so that who is offline knows it soon.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    attempts: int = 6
    unreachable_attempts: int = 3
    patience_seconds: float = 60.0
    first_pause_seconds: float = 0.5
    longest_pause_seconds: float = 15.0


def is_transient(method: str, path: str, status: int) -> bool:
    """Whether the same request may succeed later."""
    busy = status == 409 and method == "POST" and "/commit/" in path
    return status in _TRANSIENT or busy


def asked_pause(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds that the Hub asks to wait, by `Retry-After` (seconds or a date) or `RateLimit`; else 0."""
    after = headers.get("retry-after", "").strip()
    if after.isdigit():
        return float(after)
    if match := _RATE_LIMIT.search(headers.get("ratelimit", "")):
        return float(match[1])
    try:
        return (
            max(0.0, (parsedate_to_datetime(after).astimezone(UTC) - now).total_seconds()) if after else 0.0
        )
    except ValueError:
        return 0.0


def next_pause(limits: Limits, attempt: int, elapsed: float, asked: float, dice: float) -> float | None:
    """Seconds to wait before the attempt after number `attempt` (from 1), or None to give up.

    elapsed: seconds since the first attempt began. asked: what the Hub wants at least. dice: 0 to 1;
    spreads clients that failed together.
    """
    ceiling = min(limits.longest_pause_seconds, limits.first_pause_seconds * 2.0 ** (attempt - 1))
    pause = asked + ceiling * dice
    if attempt >= limits.attempts or elapsed + pause > limits.patience_seconds:
        return None
    return pause


class HubClient(httpx2.Client):
    """An httpx2 client with these manners for Hotshoe's requests."""

    def __init__(self, limits: Limits, **options: Any) -> None:
        timeout = httpx2.Timeout(limits.read_seconds, connect=limits.connect_seconds)
        super().__init__(timeout=timeout, **options)
        self._limits = limits

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send, patiently; RegistryUnavailable once patience is at its end."""
        if not request.headers.get("user-agent", "").startswith(f"{AGENT}/"):
            return super().send(request, **options)
        self._limit(request)
        # A stream (the upload of a large file) is spent after one attempt: its sender rewinds and repeats.
        if not isinstance(request.stream, httpx2.ByteStream):
            return super().send(request, **options)
        return self._send_patiently(request, options)

    def _limit(self, request: httpx2.Request) -> None:
        # huggingface_hub passes timeout=None to its paginated calls, which overrides the client's own.
        limits = {**self.timeout.as_dict(), **_given(request.extensions.get("timeout"))}
        request.extensions = {**request.extensions, "timeout": limits}

    def _send_patiently(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        began, attempt = time.monotonic(), 0
        while True:
            attempt += 1
            limits, asked = self._limits, 0.0
            try:
                response = super().send(request, **options)
                if not is_transient(request.method, request.url.path, response.status_code):
                    return response
                trouble = f"HTTP {response.status_code}"
                asked = asked_pause(response.headers, datetime.now(UTC))
                response.close()
            except _BROKEN as error:
                trouble = type(error).__name__
                if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
                    limits = replace(limits, attempts=limits.unreachable_attempts)
            pause = next_pause(limits, attempt, time.monotonic() - began, asked, random.random())
            if pause is None:
                raise _unavailable(request, trouble, attempt, asked)
            _log.warning("%s %s: %s, again in %.1f s", request.method, request.url.path, trouble, pause)
            time.sleep(pause)


def _given(timeout: Mapping[str, float | None] | None) -> dict[str, float]:
    return {key: seconds for key, seconds in (timeout or {}).items() if seconds is not None}


def _unavailable(request: httpx2.Request, trouble: str, attempts: int, asked: float) -> RegistryUnavailable:
    later = f"in {asked:.0f} seconds" if asked else "in a while"
    return RegistryUnavailable(
        f"the Hub at {request.url.scheme}://{request.url.netloc.decode()} did not do {request.method} "
        f"{request.url.path} in {attempts} attempts ({trouble}): try again {later}",
        details={"retry_seconds": f"{asked:.0f}"} if asked else None,
    )
