"""What the Hub's refusals mean here, and what to do about each. No token ever gets into a message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hotshoe.adapter.errors import (
    AdapterNotFound,
    Conflict,
    HotshoeError,
    InvalidData,
    PermissionDenied,
    RegistryUnavailable,
    Unauthenticated,
    VersionNotFound,
)

_TOKEN = re.compile(r"\bhf_[A-Za-z0-9_-]+|\bapi_org_[A-Za-z0-9_-]+|(?<=Bearer )\S+")
_UNREADABLE = (
    json.JSONDecodeError,
    UnicodeDecodeError,
    RecursionError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What huggingface_hub raises where an answer is not of the form it expects."""

_SIGN_IN = "run `hf auth login` or set HF_TOKEN"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of the Hub: of which repo, and whether to change it."""

    repo: str
    endpoint: str
    writing: bool


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an exception of huggingface_hub; None if no answer came."""
    response = _response(error)
    return None if response is None else int(response.status_code)


def code_of(error: BaseException) -> str:
    """The Hub's own word for it, for example `RevisionNotFound`; empty if it gave none."""
    response = _response(error)
    return "" if response is None else str(response.headers.get("X-Error-Code", ""))


@contextmanager
def explained(asked: Asked) -> Iterator[None]:
    """Turn whatever huggingface_hub raises inside into an error of the house."""
    try:
        yield
    except HotshoeError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        # HfHubHTTPError, offline mode and broken downloads are OSErrors; a bad card is a ValueError; a
        # failed upload is wrapped into a RuntimeError.
        raise explain(error, asked) from error
    except Exception as error:
        if _response(error) is None and not _in_the_client(error):
            raise
        raise explain(error, asked) from error


def explain(error: BaseException, asked: Asked) -> HotshoeError:
    """The error of the house for one of huggingface_hub; of a chain, the first cause tells."""
    for cause in _causes(error):
        error = cause
        if isinstance(cause, HotshoeError):
            return cause
    status, code = status_of(error), code_of(error)
    details = {"adapter": asked.repo}
    if status is None:
        if isinstance(error, _UNREADABLE):
            return RegistryUnavailable(
                f"what answers at {asked.endpoint} for {asked.repo} does not speak as a Hub does "
                f"({type(error).__name__}: {_first_line(error)}): look whether a proxy or a sign-in page "
                "stands before it, and at HF_ENDPOINT, then try again",
                details=details,
            )
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            return InvalidData(f"the Hub does not take {asked.repo}: {_first_line(error)}", details=details)
        return RegistryUnavailable(
            f"the Hub at {asked.endpoint} cannot be reached for {asked.repo} ({type(error).__name__}: "
            f"{_first_line(error)}): check the network, HF_ENDPOINT and HF_HUB_OFFLINE, then try again",
            details=details,
        )
    refusal, message = _refusal(status, code, asked, _said(error), signed_in=_signed_in(error))
    return refusal(message, details=details)


def _refusal(
    status: int, code: str, asked: Asked, said: str, *, signed_in: bool
) -> tuple[type[HotshoeError], str]:
    repo, page = asked.repo, f"{asked.endpoint}/{asked.repo}"
    if code == "GatedRepo":
        return PermissionDenied, f"{repo} is gated: ask for access at {page}, then {_SIGN_IN}"
    if code in ("RevisionNotFound", "EntryNotFound"):
        return VersionNotFound, f"{repo}: {said}; `hotshoe show {repo}` shows what is there"
    if status == 401 and signed_in and code != "RepoNotFound":
        return Unauthenticated, f"the Hub refused the token: {_SIGN_IN} with one that is valid"
    if status == 401 and asked.writing:
        return Unauthenticated, f"to change {repo}, the Hub wants a token that may write: {_SIGN_IN}"
    if status == 401 or (status == 404 and code == "RepoNotFound"):
        hint = "the token does not reach it" if signed_in else f"no token was sent: {_SIGN_IN}"
        return AdapterNotFound, f"{repo} is not on {asked.endpoint}, or it is private and {hint}"
    if status == 403:
        verb = "change" if asked.writing else "read"
        return PermissionDenied, (
            f"the token may not {verb} {repo} ({said}): use one with that right, see {page}/settings"
        )
    if status in (409, 412):
        return Conflict, f"{repo} was changed by somebody else at the same time: look again, then repeat"
    if status == 404:
        return AdapterNotFound, f"{repo} is not on {asked.endpoint}: {said}"
    if status >= 500 or status in (408, 429):
        return (
            RegistryUnavailable,
            f"the Hub at {asked.endpoint} answers {status} for {repo}: try again later",
        )
    return RegistryUnavailable, f"the Hub refused what was asked of {repo} with HTTP {status}: {said}"


def redacted(text: str) -> str:
    """The text without anything that looks like a token."""
    return _TOKEN.sub("***", text)


def _said(error: BaseException) -> str:
    """The Hub's own words, cleaned; the status where it said nothing."""
    response = _response(error)
    words = "" if response is None else str(response.headers.get("X-Error-Message", ""))
    return redacted(words)[:300] or f"HTTP {status_of(error)}"


def _signed_in(error: BaseException) -> bool:
    """Whether the refused request had a token in it."""
    response = _response(error)
    return response is not None and "authorization" in response.request.headers


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return redacted(lines[0])[:300] if lines else "no details"


def _response(error: BaseException) -> Any:
    for cause in _causes(error):
        response = getattr(cause, "response", None)
        if response is not None:
            return response
    return None


def _in_the_client(error: BaseException) -> bool:
    """Whether it was raised in huggingface_hub, or what that calls, and not in a line of ours."""
    trace, modules = error.__traceback__, [type(error).__module__]
    while trace is not None:
        modules.append(str(trace.tb_frame.f_globals.get("__name__")))
        trace = trace.tb_next
    return any(name.split(".")[0] in ("huggingface_hub", "httpx2") for name in modules)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
