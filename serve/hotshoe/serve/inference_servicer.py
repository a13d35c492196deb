"""`hotshoe.v1.Inference`: translates messages, and errors to statuses; decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc

from hotshoe.adapter.errors import HotshoeError
from hotshoe.serve.call import Origin
from hotshoe.serve.generation import Caller, Generation
from hotshoe.serve.identity import Identity
from hotshoe.serve.listing import AdapterListing
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc
from hotshoe.wire import messages, status

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer(inference_pb2_grpc.InferenceServicer):
    """The public service, over the use cases it is given."""

    def __init__(self, generation: Generation, listing: AdapterListing, identity: Identity) -> None:
        self._generation = generation
        self._listing = listing
        self._identity = identity

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        async with _answering(context):
            caller = self._caller(context)
            completion = await self._generation.complete(
                messages.to_request(request.generation), request_id=_request_id(), caller=caller
            )
        return messages.from_completion(completion)

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: Context
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        async with _answering(context):
            caller = self._caller(context)
            stream = self._generation.stream(
                messages.to_request(request.generation), request_id=_request_id(), caller=caller
            )
            async with contextlib.aclosing(stream) as events:
                async for event in events:
                    yield messages.from_event(event)

    async def ListAdapters(
        self, request: pb.ListAdaptersRequest, context: Context
    ) -> pb.ListAdaptersResponse:
        async with _answering(context):
            tenant = self._caller(context).tenant
            page = await self._listing.page(request.org, request.page_size, request.page_token, tenant)
        return pb.ListAdaptersResponse(
            adapters=[messages.from_summary(summary) for summary in page.adapters],
            next_page_token=page.next_token,
        )

    def _caller(self, context: Context) -> Caller:
        tenant = self._identity.of(context.invocation_metadata() or (), context.auth_context() or {})
        return Caller(tenant, Origin(tenant=tenant.name), context.time_remaining())


@contextlib.asynccontextmanager
async def _answering(context: Context) -> AsyncIterator[None]:
    """End the call with the status that belongs to an error raised inside."""
    try:
        yield
    except HotshoeError as error:
        await context.abort(status.code_of(error), status.message_of(error), status.trailers_of(error))
    except (asyncio.CancelledError, GeneratorExit, grpc.aio.AbortError):
        raise
    except Exception as error:
        log.exception("a request failed in a way that was not foreseen")
        failure = HotshoeError(f"internal error: {type(error).__name__}; the server's log says more")
        await context.abort(status.code_of(failure), status.message_of(failure), status.trailers_of(failure))


def _request_id() -> str:
    # Never the caller's: the engine takes duplicate ids without a word and mixes their answers.
    return uuid.uuid4().hex
