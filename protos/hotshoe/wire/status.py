"""The one table of errors and gRPC statuses, read by server and client.

An error travels as a code, a message, and `google.rpc.ErrorInfo` (its reason and details) in the
status details, beside `google.rpc.RetryInfo` where it is known when to come back.
Source: google.rpc error model, AIP-193.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from hotshoe.adapter import errors
from hotshoe.adapter.errors import HotshoeError

Trailers = Iterable[tuple[str, str | bytes]]
"""Trailing metadata as both gRPC clients hand it over."""

DOMAIN = "hotshoe.dev"
DETAILS_KEY = "grpc-status-details-bin"

# Clients refuse headers over 8 KiB in all. gRPC percent-encodes the message (up to 3 bytes for one) and
# writes the details, which repeat it, as base64 (4 bytes for 3): together that is under 7.6 KiB.
MAX_MESSAGE_BYTES = 1_200
MAX_DETAILS = 8
MAX_DETAIL_BYTES = 160

_CODES: dict[type[HotshoeError], grpc.StatusCode] = {
    errors.InvalidReference: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidConfig: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidData: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Refused: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    HotshoeError: grpc.StatusCode.INTERNAL,
}

# What a peer that is not Hotshoe (a proxy, gRPC itself) may answer with, as the nearest class.
_CLASSES: dict[grpc.StatusCode, type[HotshoeError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: errors.Refused,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
}


def code_of(error: HotshoeError) -> grpc.StatusCode:
    """The gRPC code of an error: that of its nearest ancestor in the table."""
    return next(_CODES[cls] for cls in type(error).__mro__ if cls in _CODES)


def trailers_of(error: HotshoeError) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that carries the error's reason, details and time to retry."""
    code: int = code_of(error).value[0]
    status = status_pb2.Status(code=code, message=message_of(error))
    status.details.append(
        _packed(
            error_details_pb2.ErrorInfo(
                reason=error.reason,
                domain=DOMAIN,
                metadata={
                    key: _cut(value, MAX_DETAIL_BYTES)
                    for key, value in itertools.islice(error.details.items(), MAX_DETAILS)
                },
            )
        )
    )
    if isinstance(error, errors.Exhausted):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(math.ceil(error.retry_seconds * 1000))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return ((DETAILS_KEY, status.SerializeToString()),)


def message_of(error: HotshoeError) -> str:
    """The error's message, short enough for a header."""
    return _cut(error.message, MAX_MESSAGE_BYTES)


def to_error(code: grpc.StatusCode, message: str, trailers: Trailers | None) -> HotshoeError:
    """The error that a peer sent, of the class that it was raised as there.

    trailers: the call's trailing metadata, pairs of key and value. A status without Hotshoe's details
    (from a proxy or gRPC itself) becomes the nearest class by its code.
    """
    reason, details, retry_seconds = _read_details(trailers)
    kind = errors.by_reason().get(reason) or _CLASSES.get(code, HotshoeError)
    text = message or f"the server answered {code.name}"
    if issubclass(kind, errors.Exhausted):
        return kind(text, retry_seconds=retry_seconds, details=details)
    return kind(text, details=details)


def _read_details(trailers: Trailers | None) -> tuple[str, dict[str, str], float]:
    reason, details, retry_seconds = "", {}, 1.0
    for key, value in trailers or ():
        if key != DETAILS_KEY:
            continue
        status = status_pb2.Status()
        try:
            status.ParseFromString(value)
        except Exception:  # A peer may send anything here; the code and message still stand.
            continue
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status.details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                reason, details = info.reason, dict(info.metadata)
            elif detail.Unpack(retry):
                retry_seconds = retry.retry_delay.ToMilliseconds() / 1000
    return reason, details, retry_seconds


def _cut(text: str, most: int) -> str:
    """The text in at most that many bytes of UTF-8; what is no Unicode (half a surrogate) becomes `?`."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= most:
        return encoded.decode()
    return encoded[: most - 3].decode(errors="ignore") + "..."


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
