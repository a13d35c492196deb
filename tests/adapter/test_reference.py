"""The grammar of `org/name[@selector]`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotshoe.adapter.errors import InvalidReference
from hotshoe.adapter.reference import (
    RESERVED_ALIASES,
    AdapterName,
    AdapterRef,
    Alias,
    Commit,
    VersionNumber,
    parse_selector,
)

COMMIT = "3f2a" * 10

part = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}[A-Za-z0-9]", fullmatch=True).filter(
    lambda text: "--" not in text and ".." not in text and not text.endswith(".git")
)
names = st.builds(AdapterName, part, part)
aliases = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True).filter(
    lambda text: text not in RESERVED_ALIASES and not (text[0] == "v" and text[1:].isdecimal())
)
selectors = st.one_of(
    st.none(),
    st.builds(VersionNumber, st.integers(1, 999_999_999)),
    st.builds(Alias, aliases),
    st.builds(Commit, st.text("0123456789abcdef", min_size=40, max_size=40)),
)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("acme/support", None),
        ("acme/support@prod", Alias("prod")),
        ("acme/support@v7", VersionNumber(7)),
        ("acme/support@v", Alias("v")),
        ("acme/support@v7b", Alias("v7b")),
        (f"acme/support@{COMMIT}", Commit(COMMIT)),
        (f"acme/support@{'a' * 32}", Alias("a" * 32)),
    ],
)
def test_a_reference_is_an_adapter_and_perhaps_a_selector(text: str, selector: object) -> None:
    parsed = AdapterRef.parse(text)
    assert parsed.adapter == AdapterName("acme", "support")
    assert parsed.selector == selector
    assert str(parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        "/support",
        "acme/",
        "acme/support/more",
        "acme/support@",
        "acme/support@@prod",
        "acme/support@v0",
        "acme/support@v01",
        "acme/support@v1234567890",
        "acme/support@main",
        "acme/support@Prod",
        "acme/support@prod/x",
        f"acme/support@{COMMIT.upper()}",
        f"acme/support@{'a' * 33}",
        "../etc/passwd",
        "acme/..",
        "acme/a..b",
        "acme/a--b",
        "acme/-a",
        "acme/a.",
        "acme/support.git",
        "acme/sup port",
        "acme/support\n",
        "acme/support@prod\n",
        "acmé/support",
        "acme/support@\N{FULLWIDTH LATIN SMALL LETTER V}7",
        "a" * 60 + "/" + "b" * 60,
        "acme/" + "b" * 97,
        "acme/sup\0port",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference):
        AdapterRef.parse(text)


@given(names, selectors)
def test_what_is_written_is_read_back(name: AdapterName, selector: Alias | None) -> None:
    ref = AdapterRef(name, selector)
    assert AdapterRef.parse(str(ref)) == ref


@given(st.text())
def test_any_text_is_a_reference_or_an_invalid_one(text: str) -> None:
    try:
        parsed = AdapterRef.parse(text)
    except InvalidReference:
        return
    assert str(parsed) == text


@given(st.text())
def test_any_text_is_a_selector_or_an_invalid_one(text: str) -> None:
    try:
        parsed = parse_selector(text)
    except InvalidReference:
        return
    assert str(parsed) == text


def test_names_sort_by_org_and_then_by_name() -> None:
    unsorted = [AdapterName("b", "a"), AdapterName("a", "b"), AdapterName("a", "a")]
    assert [str(each) for each in sorted(unsorted)] == ["a/a", "a/b", "b/a"]


def test_what_a_stranger_wrote_is_quoted_short_and_printable() -> None:
    with pytest.raises(InvalidReference) as raised:
        AdapterRef.parse("evil\x1b[2J" + "x" * 10_000)
    assert "\x1b" not in raised.value.message
    assert len(raised.value.message) < 400


def test_a_name_without_an_org_is_told_how_one_looks() -> None:
    with pytest.raises(InvalidReference, match=r"write org/name, for example acme/support"):
        AdapterName.parse("support")
