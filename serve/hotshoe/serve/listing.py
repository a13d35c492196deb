"""The adapters that a caller may see, a page at a time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.registry import Registry
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.tenants import Tenant
from hotshoe.wire.values import AdapterSummary

DEFAULT_PAGE = 100
LARGEST_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Page:
    """A page in the order of the names; next_token is empty on the last one."""

    adapters: tuple[AdapterSummary, ...]
    next_token: str


class AdapterListing:
    """Lists what the registry holds, and what of it is loaded here."""

    def __init__(self, registry: Registry, pool: AdapterPool) -> None:
        self._registry = registry
        self._pool = pool

    async def page(self, org: str, size: int, token: str, tenant: Tenant) -> Page:
        """What `tenant` may use of `org` (all if empty), names after `token`."""
        if not 0 <= size <= LARGEST_PAGE:
            raise InvalidRequest(f"page_size is {size}: give 1 to {LARGEST_PAGE}, or 0 for {DEFAULT_PAGE}")
        known = await asyncio.to_thread(self._registry.adapters)
        wanted = [
            each
            for each in known
            if (not org or each.adapter.org == org)
            and str(each.adapter) > token
            and tenant.may_use(each.adapter)
        ]
        size = size or DEFAULT_PAGE
        shown = wanted[:size]
        resident: dict[str, list[str]] = {}
        for version in self._pool.resident():
            resident.setdefault(str(version.adapter), []).append(version.tag)
        return Page(
            adapters=tuple(
                AdapterSummary(
                    adapter=str(each.adapter),
                    latest=f"v{each.latest}",
                    aliases=each.aliases,
                    resident=tuple(sorted(resident.get(str(each.adapter), ()))),
                )
                for each in shown
            ),
            next_token=str(shown[-1].adapter) if len(wanted) > size else "",
        )
