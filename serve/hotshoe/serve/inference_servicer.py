"""`hotshoe.v1.Inference`: translates messages, and errors to statuses; decides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from hotshoe.serve.answering import Answering, Context, origin_of
from hotshoe.serve.generation import Caller, Generation
from hotshoe.serve.identity import Identity
from hotshoe.serve.listing import AdapterListing
from hotshoe.serve.refusals import Refusals
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc
from hotshoe.wire import messages


class InferenceServicer(inference_pb2_grpc.InferenceServicer):
    """The public service, over the use cases it is given."""

    def __init__(
        self, generation: Generation, listing: AdapterListing, identity: Identity, refusals: Refusals
    ) -> None:
        self._generation = generation
        self._listing = listing
        self._identity = identity
        self._refusals = refusals

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        async with Answering(context) as request_id:
            with self._refusals.noted("Generate", request_id):
                caller = self._caller(context)
                asked = messages.to_request(request.generation)
            completion = await self._generation.complete(asked, request_id=request_id, caller=caller)
        return messages.from_completion(completion)

    async def StreamGenerate(
        self, request: pb.StreamGenerateRequest, context: Context
    ) -> AsyncIterator[pb.StreamGenerateResponse]:
        async with Answering(context) as request_id:
            with self._refusals.noted("StreamGenerate", request_id):
                caller = self._caller(context)
                asked = messages.to_request(request.generation)
            stream = self._generation.stream(asked, request_id=request_id, caller=caller)
            async with contextlib.aclosing(stream) as pieces:
                async for events in pieces:
                    yield messages.from_events(events)

    async def CountTokens(self, request: pb.CountTokensRequest, context: Context) -> pb.CountTokensResponse:
        async with Answering(context) as request_id:
            with self._refusals.noted("CountTokens", request_id):
                caller = self._caller(context)
                asked = messages.to_request(request.generation)
                tokens = await self._generation.count_tokens(asked.prompt, caller)
        return pb.CountTokensResponse(tokens=tokens, context_tokens=self._generation.context_tokens)

    async def ListAdapters(
        self, request: pb.ListAdaptersRequest, context: Context
    ) -> pb.ListAdaptersResponse:
        async with Answering(context) as request_id:
            with self._refusals.noted("ListAdapters", request_id):
                tenant = self._caller(context).tenant
                page = await self._listing.page(request.org, request.page_size, request.page_token, tenant)
        return pb.ListAdaptersResponse(
            adapters=[messages.from_summary(summary) for summary in page.adapters],
            next_page_token=page.next_token,
        )

    def _caller(self, context: Context) -> Caller:
        metadata = context.invocation_metadata() or ()
        tenant = self._identity.of(metadata, context.auth_context)
        return Caller(tenant, origin_of(metadata, tenant.name), context.time_remaining())
