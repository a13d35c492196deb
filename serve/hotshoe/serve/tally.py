"""What tenants and adapters used since the server started, for operators who look at it now."""

from __future__ import annotations

from dataclasses import dataclass

from hotshoe.serve.call import Call, Observer
from hotshoe.serve.labels import OTHER, Bounded
from hotshoe.wire.admin import Share

NEWEST = 0.1
"""The weight of the newest request in an average."""


class Tally(Observer):
    """Shares by tenant and by adapter, in the order of their names."""

    def __init__(self) -> None:
        self._tenants = _Shares()
        self._adapters = _Shares()
        self._shares: dict[str, tuple[_Share, ...]] = {}

    @property
    def tenants(self) -> tuple[Share, ...]:
        return self._tenants.told()

    @property
    def adapters(self) -> tuple[Share, ...]:
        return self._adapters.told()

    def on_begin(self, call: Call) -> None:
        self._tenants.of(call.origin.tenant).running += 1

    def on_resolved(self, call: Call) -> None:
        tenant = self._tenants.of(call.origin.tenant)
        adapter = self._adapters.of(call.resolved.adapter if call.resolved else "")
        adapter.running += 1
        self._shares[call.id] = tenant, adapter
        for share in (tenant, adapter):
            share.prompt_tokens += call.prompt_tokens

    def on_tokens(self, call: Call, tokens: int, gap_seconds: float) -> None:
        for share in self._shares[call.id]:
            share.output_tokens += tokens
            if call.chunks == 1:
                share.average_first_token(gap_seconds * 1000)

    def on_end(self, call: Call) -> None:
        for share in self._shares.pop(call.id, (self._tenants.of(call.origin.tenant),)):
            share.running -= 1
            share.requests += 1
            share.failed += call.outcome != "OK"


@dataclass(slots=True)
class _Share:
    running: int = 0
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    first_token_ms: float = 0.0

    def average_first_token(self, milliseconds: float) -> None:
        weight = NEWEST if self.first_token_ms else 1.0
        self.first_token_ms += weight * (milliseconds - self.first_token_ms)


class _Shares:
    def __init__(self) -> None:
        self._names = Bounded(OTHER)
        self._known: dict[str, _Share] = {}

    def of(self, name: str) -> _Share:
        return self._known.setdefault(self._names.of(name), _Share())

    def told(self) -> tuple[Share, ...]:
        return tuple(
            Share(
                name,
                share.running,
                share.requests,
                share.failed,
                share.prompt_tokens,
                share.output_tokens,
                share.first_token_ms,
            )
            for name, share in sorted(self._known.items())
        )
