"""Every error that Hotshoe raises on purpose, as one tree.

Each class has a stable `reason`, the word that machines match on; the message is for people and says
what failed, which one, and what to do next. No protocol is known here: `hotshoe.wire.status` maps
reasons to gRPC codes, the command line maps them to exit codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar


class HotshoeError(Exception):
    """Base of the tree. `details` are short strings that travel with the error (adapter, alias ...)."""

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, details: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, str] = dict(details or {})


# What the caller wrote is wrong.


class InvalidReference(HotshoeError):
    """Not of the form `org/name[@selector]`."""

    reason = "INVALID_REFERENCE"


class InvalidRequest(HotshoeError):
    """A request whose fields make no sense: bad sampling values, no prompt, two prompts."""

    reason = "INVALID_REQUEST"


class EmptyPrompt(InvalidRequest):
    reason = "EMPTY_PROMPT"


class PromptTooLong(InvalidRequest):
    """The prompt does not fit the context, or the message the size limit."""

    reason = "PROMPT_TOO_LONG"


class InvalidConfig(HotshoeError):
    """A configuration file or flag that cannot be read or makes no sense."""

    reason = "INVALID_CONFIG"


class InvalidData(HotshoeError):
    """Training rows that cannot be trained on; the message names file and line."""

    reason = "INVALID_DATA"


# Something named does not exist.


class NotFound(HotshoeError):
    reason = "NOT_FOUND"


class AdapterNotFound(NotFound):
    reason = "ADAPTER_NOT_FOUND"


class VersionNotFound(NotFound):
    reason = "VERSION_NOT_FOUND"


class AliasNotFound(NotFound):
    reason = "ALIAS_NOT_FOUND"


class BaseNotFound(NotFound):
    """The base model is neither a folder, nor a known package, nor a repo that could be fetched."""

    reason = "BASE_NOT_FOUND"


# The state of things forbids it.


class Refused(HotshoeError):
    """A precondition does not hold."""

    reason = "REFUSED"


class BaseMismatch(Refused):
    """The adapter was trained for another base model than the one at hand."""

    reason = "BASE_MISMATCH"


class Unservable(Refused):
    """The adapter is one that the engine would refuse, or worse, take and answer wrongly."""

    reason = "UNSERVABLE"


class AdapterLoadFailed(Refused):
    """The engine refused the adapter; nobody else is touched by that."""

    reason = "ADAPTER_LOAD_FAILED"


class Tampered(Refused):
    """Bytes do not match the digest that the manifest or the log records for them."""

    reason = "TAMPERED"


class GateFailed(Refused):
    """A version whose evaluation gates failed was to be promoted."""

    reason = "GATE_FAILED"


class Untrusted(Refused):
    """The trust policy wants a signature that the version lacks, or has from nobody it trusts."""

    reason = "UNTRUSTED"


class AddressInUse(Refused):
    """The address to listen on is taken."""

    reason = "ADDRESS_IN_USE"


class Conflict(HotshoeError):
    """Compare-and-set lost: the alias moved since its etag was read."""

    reason = "CONFLICT"


class Unauthenticated(HotshoeError):
    reason = "UNAUTHENTICATED"


class PermissionDenied(HotshoeError):
    reason = "PERMISSION_DENIED"


# Not now.


class Exhausted(HotshoeError):
    """A limit is reached; `retry_seconds` says when to come back."""

    reason = "EXHAUSTED"

    def __init__(
        self, message: str, *, retry_seconds: float, details: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, details=details)
        self.retry_seconds = retry_seconds


class Unavailable(HotshoeError):
    """A part that is needed does not answer; the same call may work later."""

    reason = "UNAVAILABLE"


class RegistryUnavailable(Unavailable):
    reason = "REGISTRY_UNAVAILABLE"


class EngineUnavailable(Unavailable):
    """The engine is not there, died, or does not do it now.

    begun: it died while it answered, which may have been why.
    """

    reason = "ENGINE_UNAVAILABLE"

    def __init__(
        self, message: str, *, begun: bool = False, details: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, details={**(details or {}), **({"begun": "true"} if begun else {})})

    @property
    def begun(self) -> bool:
        return self.details.get("begun") == "true"


class Draining(Unavailable):
    """The server is shutting down and takes no new work."""

    reason = "DRAINING"


class DeadlineExceeded(HotshoeError):
    reason = "DEADLINE_EXCEEDED"


class Cancelled(HotshoeError):
    reason = "CANCELLED"


def by_reason() -> dict[str, type[HotshoeError]]:
    """Map every reason to its class, so that a reader of the wire raises the class that was sent."""
    return {cls.reason: cls for cls in _tree(HotshoeError)}


def _tree(root: type[HotshoeError]) -> Iterator[type[HotshoeError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)
