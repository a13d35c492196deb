"""The grammar of `hub://`."""

from __future__ import annotations

import pytest

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.registry.hub_url import HubPlace


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("hub://acme", HubPlace(("acme",))),
        ("hub://acme/", HubPlace(("acme",))),
        ("hub://acme,globex", HubPlace(("acme", "globex"))),
        ("hub://acme?private=no", HubPlace(("acme",), private=False)),
        ("hub://acme?poll_seconds=0", HubPlace(("acme",), poll_seconds=0)),
        ("hub://acme?webhooks=0.0.0.0:8123", HubPlace(("acme",), webhooks=("0.0.0.0", 8123))),
        ("hub://acme?endpoint=https://hub.example/", HubPlace(("acme",), endpoint="https://hub.example")),
    ],
)
def test_a_url_says_whose_adapters_and_how(url: str, place: HubPlace) -> None:
    assert HubPlace.parse(url) == place
    assert HubPlace.parse(str(place)) == place


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("hub://", "hub://org"),
        ("hub://acme/support", "hub://org"),
        ("hub://acme,,globex", "hub://org"),
        ("hub://acme?privat=no", "use private"),
        ("hub://acme?private=maybe", "yes or no"),
        ("hub://acme?poll_seconds=often", "number of seconds"),
        ("hub://acme?poll_seconds=nan", "number of seconds"),
        ("hub://acme?webhooks=8123", "HOST:PORT"),
        ("hub://acme?webhooks=localhost:99999", "HOST:PORT"),
        ("hub://acme?endpoint=ftp://hub.example", "https://host"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_with_what_to_write(url: str, says: str) -> None:
    with pytest.raises(InvalidConfig, match=says):
        HubPlace.parse(url)


def test_a_password_in_an_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidConfig, match="HF_TOKEN") as caught:
        HubPlace.parse("hub://acme?endpoint=https://me:secret%40hub.example")
    assert "secret" not in str(caught.value)


def test_a_token_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidConfig, match="HF_TOKEN") as caught:
        HubPlace.parse("hub://hf_secret@acme")
    assert "hf_secret" not in str(caught.value)
