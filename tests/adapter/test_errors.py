"""The tree of errors."""

from __future__ import annotations

import re

from hotshoe.adapter import errors
from hotshoe.adapter.errors import HotshoeError, by_reason

CLASSES = [
    each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, HotshoeError)
]


def test_every_error_has_a_reason_of_its_own() -> None:
    reasons = [each.reason for each in CLASSES]
    assert len(set(reasons)) == len(reasons)
    assert all(re.fullmatch(r"[A-Z][A-Z_]+[A-Z]", reason) for reason in reasons)


def test_every_error_is_found_by_its_reason() -> None:
    assert by_reason() == {each.reason: each for each in CLASSES}


def test_details_are_a_copy() -> None:
    given = {"adapter": "acme/support"}
    error = HotshoeError("no", details=given)
    given["adapter"] = "other"
    assert error.details == {"adapter": "acme/support"}
