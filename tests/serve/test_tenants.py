"""Who may call, with what, and how the file says so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotshoe.adapter.errors import InvalidConfig, InvalidRequest, PermissionDenied
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.serve.tenants import Limits, Tenant, key_hash
from hotshoe.serve.tenants_file import parse_tenants

HASH = key_hash("hs_secret")

WHOLE = f"""
[tenants.acme]
keys = ["{HASH}"]
subjects = ["acme-app"]
adapters = ["acme/*", "shared/summary"]
default_adapter = "acme/support@prod"
base = false
weight = 2
admin = true

[tenants.acme.limits]
requests_per_second = 0.5
concurrent = 4
queued = 0
tokens_per_minute = 1000
max_tokens = 64

[tenants.globex]
"""


def test_a_file_names_tenants_by_key_and_by_certificate() -> None:
    tenants = parse_tenants(WHOLE)
    acme = tenants.by_name["acme"]
    assert tenants.of_key("hs_secret") is acme
    assert tenants.of_subject("acme-app") is acme
    assert tenants.of_key(HASH) is None
    assert tenants.of_key("") is None
    assert tenants.of_subject("") is None
    assert acme == Tenant(
        name="acme",
        adapters=("acme/*", "shared/summary"),
        default_adapter=AdapterRef.parse("acme/support@prod"),
        base=False,
        weight=2,
        admin=True,
        limits=Limits(0.5, 4, 0, 1000, 64),
    )


def test_what_is_left_out_is_little() -> None:
    globex = parse_tenants(WHOLE).by_name["globex"]
    assert globex == Tenant("globex", adapters=())
    assert not globex.admin
    with pytest.raises(PermissionDenied):
        globex.choose(AdapterRef.parse("globex/legal"))


@pytest.mark.parametrize(
    ("pattern", "adapter", "covered"),
    [
        ("acme/*", "acme/support", True),
        ("acme/*", "acme2/support", False),
        ("acme/support", "acme/support", True),
        ("acme/support", "acme/support2", False),
        ("*/support", "globex/support", True),
        ("acme/s*-eu", "acme/support-eu", True),
        ("*/*", "any/thing", True),
        ("acme/*", "ACME/support", False),
    ],
)
def test_a_pattern_covers_what_it_says(pattern: str, adapter: str, covered: bool) -> None:
    assert Tenant("t", adapters=(pattern,)).may_use(AdapterName.parse(adapter)) is covered


def test_what_is_not_covered_is_denied_in_the_same_words_whatever_there_is() -> None:
    acme = Tenant("acme", adapters=("acme/*",))
    told = set()
    for name in ("globex/legal", "no/such-thing"):
        with pytest.raises(PermissionDenied) as raised:
            acme.choose(AdapterRef.parse(name))
        told.add(raised.value.message.replace(name, "NAME"))
    assert len(told) == 1


def test_a_request_that_names_none_gets_the_default_or_the_base_if_allowed() -> None:
    default = AdapterRef.parse("acme/support@prod")
    assert Tenant("t", default_adapter=default).choose(None) == default
    assert Tenant("t").choose(None) is None
    with pytest.raises(PermissionDenied, match="name an adapter"):
        Tenant("t", base=False).choose(None)


def test_the_longest_answer_is_the_tenants_own() -> None:
    acme = Tenant("acme", limits=Limits(max_tokens=64))
    assert acme.max_tokens(None) == 64
    assert acme.max_tokens(10) == 10
    with pytest.raises(InvalidRequest, match="64 at most"):
        acme.max_tokens(65)
    assert Tenant("free").max_tokens(None) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tenants = 3", r"write it as a table"),
        ("[tenants", r"no TOML"),
        ("[tenats.acme]", r"did you mean tenants\?"),
        ("[tenants.acme]\nkey = []", r"tenants.acme has no key 'key'; did you mean keys\?"),
        ("[tenants.acme.limits]\ntokens = 3", r"tenants.acme.limits has no key 'tokens'"),
        ('[tenants.acme]\nkeys = ["hs_in_the_clear"]', r"an entry is no hash"),
        ('[tenants.acme]\nkeys = "x"', r"write a list"),
        ("[tenants.acme]\nkeys = [3]", r"write text in quotes"),
        ('[tenants.acme]\nadapters = ["acme"]', r"'acme' is no pattern"),
        ('[tenants.acme]\nadapters = ["acme/[a-z]"]', r"is no pattern"),
        ('[tenants.acme]\ndefault_adapter = "x"', r"names no adapter"),
        ('[tenants.acme]\ndefault_adapter = "b/c"\nadapters = ["a/*"]', r"none of its own adapters"),
        ("[tenants.acme]\nweight = 0", r"weight is 0: give a number, 0.01 to 1000"),
        ("[tenants.acme]\nweight = true", r"weight is True"),
        ("[tenants.acme]\nweight = nan", r"weight is nan"),
        ("[tenants.acme]\nbase = 1", r"write true or false"),
        ("[tenants.acme.limits]\nconcurrent = 0", r"concurrent is 0: give a whole number, 1 or more"),
        ("[tenants.acme.limits]\nconcurrent = 1.5", r"concurrent is 1.5"),
        ("[tenants.acme.limits]\nrequests_per_second = -1", r"requests_per_second is -1"),
        ("[tenants.Acme]", r"a tenant's name is"),
        (f'[tenants.a]\nkeys = ["{HASH}"]\n[tenants.b]\nkeys = ["{HASH}"]', r"is tenant a's already"),
        ('[tenants.a]\nsubjects = ["x"]\n[tenants.b]\nsubjects = ["x"]', r"is tenant a's already"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_and_the_place_named(text: str, says: str) -> None:
    with pytest.raises(InvalidConfig, match=says):
        parse_tenants(text)


def test_a_key_in_the_clear_is_not_repeated_in_the_message() -> None:
    with pytest.raises(InvalidConfig) as raised:
        parse_tenants('[tenants.acme]\nkeys = ["hs_in_the_clear"]')
    assert "hs_in_the_clear" not in raised.value.message


@given(st.text())
def test_any_text_is_a_tenants_file_or_an_invalid_one(text: str) -> None:
    try:
        parse_tenants(text)
    except InvalidConfig:
        return
