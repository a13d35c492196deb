"""The blocking client; safe to share between threads."""

from __future__ import annotations

import time
from collections.abc import Generator
from types import TracebackType
from typing import Protocol, TypeVar

import grpc

from hotshoe.adapter.reference import AdapterRef
from hotshoe.client.calls import error_of, generation, metadata
from hotshoe.client.connection import Tls, channel
from hotshoe.client.retry import Attempts, Retry
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc
from hotshoe.wire import messages
from hotshoe.wire.values import AdapterSummary, Completion, Event, Prompt, Sampling

Request = TypeVar("Request", contravariant=True)
Answer = TypeVar("Answer", covariant=True)


class Method(Protocol[Request, Answer]):
    """A method of the stub."""

    def __call__(
        self, request: Request, /, *, timeout: float | None, metadata: tuple[tuple[str, str], ...]
    ) -> Answer: ...


class Client:
    """A connection to one server. Use it as `with`.

    target: `HOST:PORT`. timeout_seconds: the deadline of every call that names none; None waits for ever.
    api_key: says who calls, where the server asks. tls: as `Tls` says; None talks in the clear, the key
    included. retry: what is tried again and how often, within the deadline; a stream never once it began.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_seconds: float | None = None,
        api_key: str | None = None,
        tls: Tls | None = None,
        retry: Retry | None = None,
    ) -> None:
        self._target = target
        self._timeout_seconds = timeout_seconds
        self._retry = retry or Retry()
        self._metadata = metadata(api_key)
        self._channel = channel(target, tls)
        self._stub = inference_pb2_grpc.InferenceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def generate(
        self,
        prompt: Prompt | str,
        *,
        adapter: AdapterRef | str | None = None,
        sampling: Sampling | None = None,
        session: str = "",
        priority: int = 0,
        timeout_seconds: float | None = None,
    ) -> Completion:
        """The whole answer. A bare string is one user's turn in a chat; no adapter means the base.

        session: keeps a user on one side of an alias that splits between versions. priority: orders your
        own requests in line, more first.
        """
        request = pb.GenerateRequest(generation=generation(prompt, adapter, sampling, session, priority))
        return messages.to_completion(self._answer(self._stub.Generate, request, timeout_seconds))

    def stream(
        self,
        prompt: Prompt | str,
        *,
        adapter: AdapterRef | str | None = None,
        sampling: Sampling | None = None,
        session: str = "",
        priority: int = 0,
        timeout_seconds: float | None = None,
    ) -> Generator[Event, None, None]:
        """Stream an answer: one Resolved, any number of Delta, one Finished.

        Closing the generator (`contextlib.closing`) cancels the work on the server.
        """
        request = pb.StreamGenerateRequest(
            generation=generation(prompt, adapter, sampling, session, priority)
        )
        attempts = self._attempts(timeout_seconds)
        while True:
            call = self._stub.StreamGenerate(request, timeout=attempts.seconds_left, metadata=self._metadata)
            begun = False
            try:
                for message in call:
                    begun = True
                    yield from messages.to_events(message)
                return
            except grpc.RpcError as error:
                failure = error_of(error, self._target)
                # What was read cannot be taken back: another answer would go on where this one broke off.
                pause = None if begun else attempts.pause_seconds(failure)
                if pause is None:
                    raise failure from error
            finally:
                call.cancel()
            time.sleep(pause)

    def count_tokens(self, prompt: Prompt | str) -> int:
        """How many tokens a prompt has as the base sees it, chat template included."""
        request = pb.CountTokensRequest(generation=generation(prompt, None, None))
        return self._answer(self._stub.CountTokens, request).tokens

    def adapters(self, org: str = "") -> list[AdapterSummary]:
        """Every adapter that the caller may use, of one org if given, by name."""
        found: list[AdapterSummary] = []
        token = ""
        while True:
            request = pb.ListAdaptersRequest(org=org, page_token=token)
            page = self._answer(self._stub.ListAdapters, request)
            found.extend(map(messages.to_summary, page.adapters))
            if not (token := page.next_page_token):
                return found

    def _answer(
        self, method: Method[Request, Answer], request: Request, timeout_seconds: float | None = None
    ) -> Answer:
        attempts = self._attempts(timeout_seconds)
        while True:
            try:
                return method(request, timeout=attempts.seconds_left, metadata=self._metadata)
            except grpc.RpcError as error:
                failure = error_of(error, self._target)
                if (pause := attempts.pause_seconds(failure)) is None:
                    raise failure from error
            time.sleep(pause)

    def _attempts(self, timeout_seconds: float | None) -> Attempts:
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        return Attempts(self._retry, seconds)
