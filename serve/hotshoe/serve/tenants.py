"""Who calls: what a tenant may use, how much of it, and how it is recognized."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from hotshoe.adapter.errors import InvalidRequest, PermissionDenied
from hotshoe.adapter.reference import AdapterName, AdapterRef

QUEUED = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may take; None is without limit.

    concurrent: requests under way, those in line included. queued: those in line. tokens_per_minute: of
    prompts and answers together. max_tokens: of one answer.
    """

    requests_per_second: float | None = None
    concurrent: int | None = None
    queued: int = QUEUED
    tokens_per_minute: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A caller and its rights."""

    name: str
    adapters: tuple[str, ...] = ("*/*",)
    default_adapter: AdapterRef | None = None
    base: bool = True
    weight: float = 1.0
    admin: bool = False
    limits: Limits = field(default_factory=Limits)

    def may_use(self, adapter: AdapterName) -> bool:
        """Whether one of its patterns covers this adapter."""
        return any(fnmatch.fnmatchcase(str(adapter), pattern) for pattern in self.adapters)

    def choose(self, asked: AdapterRef | None) -> AdapterRef | None:
        """The adapter that answers a request for `asked`; None is the base.

        Raises PermissionDenied, in the same words whether there is such an adapter or not.
        """
        chosen = asked or self.default_adapter
        if chosen is None and not self.base:
            raise PermissionDenied(f"tenant {self.name} may not use the base alone: name an adapter")
        if chosen is not None and not self.may_use(chosen.adapter):
            raise PermissionDenied(
                f"tenant {self.name} may not use {chosen.adapter}: its adapters are "
                f"{', '.join(self.adapters) or 'none'}",
                details={"adapter": str(chosen.adapter)},
            )
        return chosen

    def max_tokens(self, asked: int | None) -> int | None:
        """The length of an answer for a request that asks for `asked`; InvalidRequest if that is too much."""
        most = self.limits.max_tokens
        if most is not None and asked is not None and asked > most:
            raise InvalidRequest(f"max_tokens is {asked}, and tenant {self.name} may ask for {most} at most")
        return most if asked is None else asked


ANYONE = Tenant(name="", admin=True, limits=Limits(queued=4096))
"""Who calls a server that asks nobody who they are."""


@dataclass(frozen=True, slots=True)
class Tenants:
    """All tenants, by credential. Holds hashes of keys, never keys."""

    by_name: Mapping[str, Tenant]
    by_key: Mapping[str, Tenant]
    by_subject: Mapping[str, Tenant]

    def of_key(self, key: str) -> Tenant | None:
        """Whose API key this is."""
        return self.by_key.get(key_hash(key))

    def of_subject(self, subject: str) -> Tenant | None:
        """Whose client certificate names this subject."""
        return self.by_subject.get(subject)


def key_hash(key: str) -> str:
    """What the tenants file holds of an API key.

    One round of SHA-256 will do: keys are 256 random bits (`hotshoe tenant-key`), not words to guess.
    """
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()
