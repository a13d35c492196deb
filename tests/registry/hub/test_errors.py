"""What the Hub's refusals mean, one row each."""

from __future__ import annotations

import httpx2
import pytest

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
from hotshoe.registry.hub_errors import Asked, explain, explained, redacted

TOKEN = "hf_abcdefghij0123456789"
READING, WRITING = Asked("acme/support", "https://hub", False), Asked("acme/support", "https://hub", True)


def refusal(status: int, code: str = "", message: str = "", *, signed_in: bool = True) -> OSError:
    """As huggingface_hub raises it: an OSError with the response on it."""
    headers = {"authorization": f"Bearer {TOKEN}"} if signed_in else {}
    request = httpx2.Request("GET", "https://hub/api/models/acme/support/refs", headers=headers)
    error = OSError(f"HTTP {status}")
    answer = {"X-Error-Code": code, "X-Error-Message": message}
    error.response = httpx2.Response(status, headers=answer, request=request)  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "asked", "kind", "says"),
    [
        (refusal(401), READING, Unauthenticated, "refused the token"),
        (refusal(401, signed_in=False), WRITING, Unauthenticated, "may write"),
        (refusal(401, "RepoNotFound", signed_in=False), READING, AdapterNotFound, "no token was sent"),
        (refusal(404, "RepoNotFound"), READING, AdapterNotFound, "does not reach it"),
        (refusal(403, "GatedRepo"), READING, PermissionDenied, "ask for access at https://hub/acme/support"),
        (refusal(403, message="read only"), WRITING, PermissionDenied, r"may not change .*\(read only\)"),
        (
            refusal(404, "RevisionNotFound", "Invalid rev id: x"),
            READING,
            VersionNotFound,
            "Invalid rev id: x",
        ),
        (refusal(404, "EntryNotFound"), READING, VersionNotFound, "hotshoe show"),
        (refusal(412), WRITING, Conflict, "look again"),
        (refusal(409), WRITING, Conflict, "look again"),
        (refusal(500), READING, RegistryUnavailable, "answers 500"),
        (refusal(418, message="teapot"), READING, RegistryUnavailable, "HTTP 418: teapot"),
        (OSError("no route"), READING, RegistryUnavailable, "HF_ENDPOINT"),
        (ValueError("Invalid metadata in README.md."), WRITING, InvalidData, "Invalid metadata"),
    ],
)
def test_each_refusal_is_an_error_of_the_house_that_says_what_next(
    error: Exception, asked: Asked, kind: type[HotshoeError], says: str
) -> None:
    with pytest.raises(kind, match=says) as caught, explained(asked):
        raise error
    assert type(caught.value) is kind
    assert TOKEN not in str(caught.value)


def test_of_a_chain_the_first_cause_is_told() -> None:
    outer = RuntimeError("Error while uploading")
    outer.__cause__ = refusal(403, message="quota")
    assert isinstance(explain(outer, WRITING), PermissionDenied)
    outer.__cause__ = RegistryUnavailable("given up")
    assert str(explain(outer, WRITING)) == "given up"


def test_an_error_of_the_house_passes_as_it_is() -> None:
    with pytest.raises(Conflict, match="mine"), explained(READING):
        raise Conflict("mine")


def test_a_mistake_of_our_own_is_not_blamed_on_the_hub() -> None:
    with pytest.raises(AttributeError), explained(READING):
        raise AttributeError("typo")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"bad token {TOKEN}!", "bad token ***!"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("api_org_XYZ123", "***"),
        ("the half_life of x", "the half_life of x"),
    ],
)
def test_what_looks_like_a_token_is_not_repeated(text: str, clean: str) -> None:
    assert redacted(text) == clean
