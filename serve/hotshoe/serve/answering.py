"""What every servicer shares: who calls, where from, and how a call ends in an error."""

from __future__ import annotations

import logging
import secrets
from types import TracebackType
from typing import Any, NoReturn

import grpc

from hotshoe.adapter.errors import HotshoeError
from hotshoe.serve.call import Origin
from hotshoe.serve.identity import Metadata
from hotshoe.serve.logs import current_request
from hotshoe.wire import status

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

REQUEST_ID_KEY = "x-request-id"
"""The caller's own name for a request in its metadata; the server's name for it in the answer's."""

TRACE_KEYS = ("traceparent", "tracestate")
"""Source: W3C Trace Context."""

_LONGEST = 512


class Answering:
    """For `async with`: names a call, and ends it with the status that belongs to an error raised inside.

    The caller is told the name in the trailing metadata, whichever way it ends.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        # Never the caller's: the engine takes duplicate ids without a word and mixes their answers.
        self._request_id = secrets.token_hex(16)

    async def __aenter__(self) -> str:
        current_request.set(self._request_id)  # gRPC handles every call in a context of its own.
        self._context.set_trailing_metadata(self._named)
        return self._request_id

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        match error:
            case HotshoeError():
                await self._abort(error)
            case grpc.aio.AbortError():
                return
            case Exception():
                log.error(
                    "request %s failed in a way that was not foreseen", self._request_id, exc_info=error
                )
                await self._abort(
                    HotshoeError(
                        f"internal error: {type(error).__name__}; the server's log says more of "
                        f"{self._request_id}"
                    )
                )

    async def _abort(self, error: HotshoeError) -> NoReturn:
        await self._context.abort(
            status.code_of(error), status.message_of(error), (*status.trailers_of(error), *self._named)
        )

    @property
    def _named(self) -> tuple[tuple[str, str], ...]:
        return ((REQUEST_ID_KEY, self._request_id),)


def origin_of(metadata: Metadata, tenant: str) -> Origin:
    """Where a call comes from, as its metadata says; what is too long to be meant is left out."""
    said = {key: value for key, value in metadata if isinstance(value, str) and len(value) <= _LONGEST}
    trace = {key: said[key] for key in TRACE_KEYS if key in said}
    return Origin(tenant=tenant, trace=trace, request_id=said.get(REQUEST_ID_KEY, ""))
