"""Errors to gRPC statuses and back."""

from __future__ import annotations

import urllib.parse

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from hotshoe.adapter.errors import (
    AdapterNotFound,
    AliasNotFound,
    Conflict,
    DeadlineExceeded,
    EmptyPrompt,
    Exhausted,
    HotshoeError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Refused,
    Tampered,
    Unauthenticated,
    Unavailable,
    by_reason,
)
from hotshoe.wire.status import (
    DETAILS_KEY,
    code_of,
    message_of,
    to_error,
    trailers_of,
)

CLASSES = sorted(by_reason().values(), key=lambda each: each.reason)
DETAILS = {"adapter": "acme/support", "alias": "prod"}


def _make(kind: type[HotshoeError], message: str = "no, because; do this") -> HotshoeError:
    if issubclass(kind, Exhausted):
        return kind(message, retry_seconds=2.5, details=DETAILS)
    return kind(message, details=DETAILS)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.reason)
def test_every_error_comes_back_as_it_was_raised(kind: type[HotshoeError]) -> None:
    sent = _make(kind)
    received = to_error(code_of(sent), message_of(sent), trailers_of(sent))
    assert type(received) is kind
    assert (received.message, received.details) == (sent.message, sent.details)
    if isinstance(received, Exhausted):
        assert received.retry_seconds == 2.5


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (AdapterNotFound, grpc.StatusCode.NOT_FOUND),
        (AliasNotFound, grpc.StatusCode.NOT_FOUND),
        (EmptyPrompt, grpc.StatusCode.INVALID_ARGUMENT),
        (Tampered, grpc.StatusCode.FAILED_PRECONDITION),
        (Conflict, grpc.StatusCode.ABORTED),
        (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
        (PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
        (Exhausted, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
        (HotshoeError, grpc.StatusCode.INTERNAL),
    ],
)
def test_an_error_has_the_code_of_its_kind(kind: type[HotshoeError], code: grpc.StatusCode) -> None:
    assert code_of(_make(kind)) is code


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidRequest),
        (grpc.StatusCode.FAILED_PRECONDITION, Refused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, Exhausted),
        (grpc.StatusCode.UNAVAILABLE, Unavailable),
        (grpc.StatusCode.UNIMPLEMENTED, HotshoeError),
        (grpc.StatusCode.UNKNOWN, HotshoeError),
    ],
)
@pytest.mark.parametrize(
    "trailers", [None, [], [("x-proxy", "1")], [(DETAILS_KEY, b"\xff\xff not a status")]]
)
def test_a_status_of_a_stranger_is_the_nearest_class(
    code: grpc.StatusCode, kind: type[HotshoeError], trailers: list[tuple[str, str | bytes]] | None
) -> None:
    error = to_error(code, "something", trailers)
    assert type(error) is kind
    assert error.message == "something"


@pytest.mark.parametrize(
    ("seconds", "sent"), [(2.5, (2, 500_000_000)), (0.0001, (0, 1_000_000)), (90.0, (90, 0))]
)
def test_the_time_to_come_back_is_a_retry_info_that_any_client_reads(
    seconds: float, sent: tuple[int, int]
) -> None:
    ((_, details),) = trailers_of(Exhausted("full", retry_seconds=seconds))
    info, retry = status_pb2.Status.FromString(details).details
    assert info.type_url == "type.googleapis.com/google.rpc.ErrorInfo"
    assert retry.type_url == "type.googleapis.com/google.rpc.RetryInfo"
    delay = error_details_pb2.RetryInfo.FromString(retry.value).retry_delay
    assert (delay.seconds, delay.nanos) == sent


def test_an_error_that_no_waiting_mends_has_no_retry_info() -> None:
    ((_, details),) = trailers_of(AdapterNotFound("no"))
    assert [each.type_url for each in status_pb2.Status.FromString(details).details] == [
        "type.googleapis.com/google.rpc.ErrorInfo"
    ]


def test_a_reason_of_another_domain_is_not_believed() -> None:
    status = status_pb2.Status()
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="TAMPERED", domain="example.com"))
    error = to_error(grpc.StatusCode.NOT_FOUND, "gone", [(DETAILS_KEY, status.SerializeToString())])
    assert type(error) is NotFound


def test_a_status_without_a_message_says_its_code() -> None:
    assert to_error(grpc.StatusCode.NOT_FOUND, "", None).message == "the server answered NOT_FOUND"


@pytest.mark.parametrize("letter", ["x", "ü", "\N{CAMERA}"])
def test_a_message_and_its_details_fit_the_headers_of_a_client(letter: str) -> None:
    details = {f"detail {number}": letter * 100_000 for number in range(100)}
    error = NotFound(letter * 100_000, details=details)
    message = message_of(error)
    assert message.endswith("...")
    as_header = len(urllib.parse.quote(message, safe=" "))
    as_base64 = sum(len(key) + len(value) * 4 // 3 for key, value in trailers_of(error))
    assert as_header + as_base64 < 8192


def test_a_message_that_is_no_unicode_can_be_sent_all_the_same() -> None:
    error = NotFound("half a pair: \ud800", details={"adapter": "\ud800"})
    received = to_error(code_of(error), message_of(error), trailers_of(error))
    assert (received.message, received.details) == ("half a pair: ?", {"adapter": "?"})
