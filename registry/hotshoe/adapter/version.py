"""One immutable published state of an adapter."""

from __future__ import annotations

from dataclasses import dataclass, field

from hotshoe.adapter.reference import AdapterName


@dataclass(frozen=True, slots=True)
class Version:
    """A version and its identity. The number is a label; (commit, manifest digest) is who it is.

    commit: 40 hex digits, the store's id of the whole tree.
    manifest_sha256: 64 hex digits over the canonical manifest, which names every file by sha256.
    engine_name: the name this version has inside an engine, different for every content; vLLM keys its KV
    prefix cache and the equality of requests by it: reuse serves stale KV.
    """

    adapter: AdapterName
    number: int
    commit: str
    manifest_sha256: str
    engine_name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once: a request asks for it several times.
        object.__setattr__(self, "engine_name", f"{self.adapter}@{self.manifest_sha256}")

    @property
    def tag(self) -> str:
        return f"v{self.number}"

    def __str__(self) -> str:
        return f"{self.adapter}@{self.tag}"
