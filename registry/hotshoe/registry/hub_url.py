"""The grammar of a registry on the Hub: `hub://org[,org...][?option=value&...]`. Pure.

hub://acme                      the adapters of acme, on HF_ENDPOINT or the public Hub
hub://acme,globex               of both
hub://acme?private=no           repos that are made are public
hub://acme?poll_seconds=300     ask for changes that rarely; with a webhook nothing is lost by it
hub://acme?endpoint=https://..  another Hub
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qsl, quote, urlsplit

from hotshoe.adapter.errors import InvalidConfig, InvalidReference
from hotshoe.adapter.reference import AdapterName

HUB_PREFIX = "hub://"
POLL_SECONDS = 60.0

_OPTIONS = ("endpoint", "private", "poll_seconds", "webhooks")
_SWITCH = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class HubPlace:
    """A registry on a Hub. endpoint None: HF_ENDPOINT, or the public one. webhooks: where to listen."""

    orgs: tuple[str, ...]
    endpoint: str | None = None
    private: bool = True
    poll_seconds: float = POLL_SECONDS
    webhooks: tuple[str, int] | None = None

    @classmethod
    def parse(cls, url: str) -> HubPlace:
        """Parse the URL; raise InvalidConfig for anything odd in it, and never repeat a token."""
        if "@" in url:
            raise InvalidConfig("a registry URL holds no token: set HF_TOKEN, or run `hf auth login`")
        names, _, query = url.removeprefix(HUB_PREFIX).partition("?")
        options = dict(parse_qsl(query, keep_blank_values=True))
        for option in options.keys() - set(_OPTIONS):
            near = get_close_matches(option, _OPTIONS, 1)
            raise InvalidConfig(f"registry option {option!r} is unknown: use {' or '.join(near or _OPTIONS)}")
        return cls(
            orgs=_orgs(names.rstrip("/")),
            endpoint=checked_endpoint(options["endpoint"]) if "endpoint" in options else None,
            private=_switch("private", options.get("private", "yes")),
            poll_seconds=_seconds("poll_seconds", options.get("poll_seconds", str(POLL_SECONDS))),
            webhooks=_address("webhooks", options["webhooks"]) if "webhooks" in options else None,
        )

    def __str__(self) -> str:
        """The URL again, as short as it can be. Where it leads to does not depend on the environment."""
        options = []
        if self.endpoint:
            options.append(f"endpoint={quote(self.endpoint, safe=':/')}")
        if not self.private:
            options.append("private=no")
        if self.poll_seconds != POLL_SECONDS:
            options.append(f"poll_seconds={self.poll_seconds:g}")
        if self.webhooks:
            options.append(f"webhooks={self.webhooks[0]}:{self.webhooks[1]}")
        return HUB_PREFIX + ",".join(self.orgs) + ("?" + "&".join(options) if options else "")


def _orgs(names: str) -> tuple[str, ...]:
    try:
        return tuple(AdapterName(org, "any").org for org in names.split(","))
    except InvalidReference as error:
        raise InvalidConfig(
            f"{names!r} names no organization: write {HUB_PREFIX}org, or {HUB_PREFIX}org,another"
        ) from error


def checked_endpoint(text: str) -> str:
    """The address of a Hub; InvalidConfig for what is none, or holds a password, which is not repeated."""
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise InvalidConfig(
            "the address of a Hub holds no user or password: set HF_TOKEN, or run `hf auth login`"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidConfig(f"registry endpoint {text!r} is no address: write https://host")
    return text.rstrip("/")


def _switch(option: str, text: str) -> bool:
    if text not in _SWITCH:
        raise InvalidConfig(f"registry option {option} is {text!r}: write yes or no")
    return _SWITCH[text]


def _seconds(option: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise InvalidConfig(f"registry option {option} is {text!r}: give a number of seconds from 0 to 86400")
    return seconds


def _address(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise InvalidConfig(f"registry option {option} is {text!r}: write HOST:PORT")
    return host, int(port)
