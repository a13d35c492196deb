"""A structure that a request wants, as the server names it to the engine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wanted:
    """A text of a kind (`json`, `regex` or `grammar`), and who asks for it.

    key: what the engine knows it by once it was told of it. Two tenants' same text are two structures, each
    with its process and its refusals: what one does to its own is no matter to the other.
    """

    key: str
    tenant: str
    kind: str
    text: str

    @classmethod
    def of(cls, tenant: str, kind: str, text: str) -> Wanted:
        """With the key that belongs to it."""
        named = f"{kind}\0{len(tenant)}\0{tenant}{text}"
        return cls(hashlib.sha256(named.encode(errors="replace")).hexdigest(), tenant, kind, text)
