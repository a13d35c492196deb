"""The operators' client: what a server holds and does. Blocking; safe to share between threads."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from types import TracebackType

import grpc

from hotshoe.adapter.reference import AdapterRef
from hotshoe.client.calls import error_of, metadata
from hotshoe.client.connection import Tls, channel
from hotshoe.v1 import admin_pb2 as pb
from hotshoe.v1 import admin_pb2_grpc
from hotshoe.wire import admin_messages as messages
from hotshoe.wire.admin import Happening, Residency, ServerStatus, Warming


class AdminClient:
    """A connection to one server. Use it as `with`.

    target: `HOST:PORT`. api_key, tls: as in `Client`; the key must be that of an admin tenant.
    timeout_seconds: the deadline of every call but `watch` and `drain`.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_seconds: float | None = 60.0,
        api_key: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._target = target
        self._seconds = timeout_seconds
        self._metadata = metadata(api_key)
        self._channel = channel(target, tls)
        self._stub = admin_pb2_grpc.AdminStub(self._channel)

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def status(self) -> ServerStatus:
        """How the server is."""
        with self._raising():
            answer = self._stub.Status(pb.StatusRequest(), timeout=self._seconds, metadata=self._metadata)
        return messages.to_status(answer)

    def residency(self) -> list[Residency]:
        """Where each version is that the server had to do with of late."""
        request = pb.ListResidencyRequest()
        with self._raising():
            answer = self._stub.ListResidency(request, timeout=self._seconds, metadata=self._metadata)
        return [messages.to_residency(each) for each in answer.adapters]

    def warm(self, adapter: AdapterRef | str) -> Generator[Warming, None, None]:
        """Load an adapter before anybody asks for it; yields each state that it reaches."""
        request = pb.WarmRequest(adapter=str(adapter))
        call = self._stub.Warm(request, timeout=self._seconds, metadata=self._metadata)
        try:
            with self._raising():
                for state in call:
                    yield messages.to_warming(state)
        finally:
            call.cancel()

    def pin(self, adapter: AdapterRef | str) -> str:
        """Load a version and keep it loaded; returns its tag."""
        request = pb.PinRequest(adapter=str(adapter))
        with self._raising():
            return self._stub.Pin(request, timeout=self._seconds, metadata=self._metadata).version

    def unpin(self, adapter: AdapterRef | str) -> str:
        """Let a pinned version go when its place is needed; returns its tag."""
        request = pb.UnpinRequest(adapter=str(adapter))
        with self._raising():
            return self._stub.Unpin(request, timeout=self._seconds, metadata=self._metadata).version

    def evict(self, adapter: AdapterRef | str) -> str:
        """Unload a version that no request uses; returns its tag."""
        request = pb.EvictRequest(adapter=str(adapter))
        with self._raising():
            return self._stub.Evict(request, timeout=self._seconds, metadata=self._metadata).version

    def watch(self) -> Generator[Happening, None, None]:
        """What happens to adapters, from the first `next` on, until the generator is closed."""
        call = self._stub.Watch(pb.WatchRequest(), metadata=self._metadata)
        try:
            with self._raising():
                for message in call:
                    if (happening := messages.to_happening(message)) is not None:
                        yield happening
        finally:
            call.cancel()

    def drain(self, seconds: float = 0.0) -> int:
        """Take the server out of service; returns how many requests are left after `seconds`, 0 for all."""
        with self._raising():
            return self._stub.Drain(pb.DrainRequest(seconds=seconds), metadata=self._metadata).left

    def resume(self) -> None:
        """Take a drained server into service again."""
        with self._raising():
            self._stub.Resume(pb.ResumeRequest(), timeout=self._seconds, metadata=self._metadata)

    @contextlib.contextmanager
    def _raising(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise error_of(error, self._target) from error
