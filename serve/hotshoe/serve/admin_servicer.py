"""`hotshoe.v1.Admin`: asks for its permission, translates messages; decides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from hotshoe.adapter.errors import PermissionDenied
from hotshoe.adapter.reference import AdapterRef
from hotshoe.serve.administration import Administration
from hotshoe.serve.answering import Answering, Context
from hotshoe.serve.identity import Identity, require_admin
from hotshoe.serve.refusals import Refusals
from hotshoe.serve.tenants import ANYONE
from hotshoe.serve.unreadable import require_readable
from hotshoe.v1 import admin_pb2 as pb
from hotshoe.v1 import admin_pb2_grpc
from hotshoe.wire import admin_messages as messages

LOOPBACK = ("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "unix:")


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """The operators' service. Who is no operator is refused before anything is looked at."""

    def __init__(self, administration: Administration, identity: Identity, refusals: Refusals) -> None:
        self._administration = administration
        self._identity = identity
        self._refusals = refusals

    async def Status(self, request: pb.StatusRequest, context: Context) -> pb.StatusResponse:
        async with self._permitted(request, context, "Status"):
            return messages.from_status(await self._administration.status())

    async def ListResidency(
        self, request: pb.ListResidencyRequest, context: Context
    ) -> pb.ListResidencyResponse:
        async with self._permitted(request, context, "ListResidency"):
            residency = self._administration.residency()
            return pb.ListResidencyResponse(adapters=map(messages.from_residency, residency))

    async def Warm(self, request: pb.WarmRequest, context: Context) -> AsyncIterator[pb.WarmResponse]:
        async with self._permitted(request, context, "Warm"):
            states = self._administration.warm(AdapterRef.parse(request.adapter))
            async with contextlib.aclosing(states):
                async for warming in states:
                    yield messages.from_warming(warming)

    async def Pin(self, request: pb.PinRequest, context: Context) -> pb.PinResponse:
        async with self._permitted(request, context, "Pin"):
            version = await self._administration.pin(AdapterRef.parse(request.adapter))
            return pb.PinResponse(version=version.tag)

    async def Unpin(self, request: pb.UnpinRequest, context: Context) -> pb.UnpinResponse:
        async with self._permitted(request, context, "Unpin"):
            version = await self._administration.unpin(AdapterRef.parse(request.adapter))
            return pb.UnpinResponse(version=version.tag)

    async def Evict(self, request: pb.EvictRequest, context: Context) -> pb.EvictResponse:
        async with self._permitted(request, context, "Evict"):
            version = await self._administration.evict(AdapterRef.parse(request.adapter))
            return pb.EvictResponse(version=version.tag)

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.WatchResponse]:
        async with self._permitted(request, context, "Watch"):
            with self._administration.watching() as happenings:
                # The caller knows by this that it misses nothing from here on.
                await context.send_initial_metadata(())
                async for happening in happenings:
                    yield messages.from_happening(happening)

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        async with self._permitted(request, context, "Drain"):
            return pb.DrainResponse(left=await self._administration.drain(request.seconds))

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        async with self._permitted(request, context, "Resume"):
            await self._administration.resume()
            return pb.ResumeResponse()

    @contextlib.asynccontextmanager
    async def _permitted(self, request: object, context: Context, method: str) -> AsyncIterator[None]:
        async with Answering(context) as request_id:
            with self._refusals.noted(method, request_id):
                self._require_operator(context)
                require_readable(request)
                yield

    def _require_operator(self, context: Context) -> None:
        tenant = self._identity.of(context.invocation_metadata() or (), context.auth_context)
        if tenant is not ANYONE:
            require_admin(tenant)
        elif not context.peer().startswith(LOOPBACK):
            raise PermissionDenied(
                "this server asks nobody who they are, so it takes orders only from its own machine: "
                "call it there, or serve with a tenants file"
            )
