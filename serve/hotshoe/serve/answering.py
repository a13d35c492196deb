"""What every servicer shares: who calls, where from, and how a call ends in an error."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator
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


@contextlib.asynccontextmanager
async def answering(context: Context) -> AsyncIterator[str]:
    """Yield a name for the call; end it with the status that belongs to an error raised inside.

    The caller is told the name in the trailing metadata, whichever way it ends.
    """
    # Never the caller's: the engine takes duplicate ids without a word and mixes their answers.
    request_id = secrets.token_hex(16)
    current_request.set(request_id)  # gRPC handles every call in a context of its own.
    named = (REQUEST_ID_KEY, request_id)
    context.set_trailing_metadata((named,))
    try:
        yield request_id
    except HotshoeError as error:
        await _abort(context, error, named)
    except (asyncio.CancelledError, GeneratorExit, grpc.aio.AbortError):
        raise
    except Exception as error:
        log.exception("request %s failed in a way that was not foreseen", request_id)
        unforeseen = f"internal error: {type(error).__name__}; the server's log says more of {request_id}"
        await _abort(context, HotshoeError(unforeseen), named)


def origin_of(metadata: Metadata, tenant: str) -> Origin:
    """Where a call comes from, as its metadata says; what is too long to be meant is left out."""
    said = {key: value for key, value in metadata if isinstance(value, str) and len(value) <= _LONGEST}
    trace = {key: said[key] for key in TRACE_KEYS if key in said}
    return Origin(tenant=tenant, trace=trace, request_id=said.get(REQUEST_ID_KEY, ""))


async def _abort(context: Context, error: HotshoeError, named: tuple[str, str]) -> NoReturn:
    await context.abort(status.code_of(error), status.message_of(error), (*status.trailers_of(error), named))
