"""From the URL that names a registry to the registry."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.registry.base import cache_folder
from hotshoe.registry.cache import DEFAULT_MAX_BYTES, Cache
from hotshoe.registry.hub_url import HUB_PREFIX, HubPlace
from hotshoe.registry.knowledge import Knowledge
from hotshoe.registry.local import LocalStore
from hotshoe.registry.recollection import Recollection
from hotshoe.registry.registry import Registry
from hotshoe.registry.store import Store

if TYPE_CHECKING:
    from hotshoe.registry.trust import Trust

FRESH_SECONDS = 2.0


def open_registry(
    url: str | os.PathLike[str] | None = None,
    *,
    cache: Path | None = None,
    fresh_seconds: float = FRESH_SECONDS,
    policy: Path | None = None,
) -> Registry:
    """Open the registry that `url` names: a folder, or `hub://org`.

    None: HOTSHOE_REGISTRY, else a folder under the user's data directory. cache: where fetched versions
    are kept (default: HOTSHOE_CACHE, else the user's cache folder), up to HOTSHOE_CACHE_BYTES.
    fresh_seconds: how long refs are believed where the store cannot say cheaply that nothing changed.
    policy: the trust policy's file (default: HOTSHOE_TRUST; neither: everything is taken as it comes).
    Raises InvalidConfig, RegistryUnavailable.
    """
    named = os.fspath(url) if url else os.environ.get("HOTSHOE_REGISTRY")
    if not named:
        named = str(platformdirs.user_data_path("hotshoe", appauthor=False) / "registry")
    store, root = _store(named), cache or cache_folder()
    knowledge = Knowledge(store, Recollection(root / "knowledge", store.url), fresh_seconds)
    cached = Cache(root / "adapters", max_bytes=_max_bytes())
    return Registry(store, knowledge, cached, _trust(policy, store, root))


def _store(url: str) -> Store:
    if url.startswith(HUB_PREFIX):
        # Imported here: a registry in a folder should not wait for huggingface_hub.
        from hotshoe.registry.hub_store import HubStore

        return HubStore(HubPlace.parse(url))
    if "://" in url:
        raise InvalidConfig(f"registry {url!r} is neither a folder nor {HUB_PREFIX}org: give one of these")
    if "\0" in url or url.encode(errors="ignore").decode() != url:
        raise InvalidConfig(f"registry {url!r} is no name of a folder, in UTF-8")
    return LocalStore(Path(url))


def _trust(policy: Path | None, store: Store, root: Path) -> Trust | None:
    path = policy or os.environ.get("HOTSHOE_TRUST")
    if not path:
        return None
    # Imported here: who asks for no signatures should not wait for the cryptography.
    from hotshoe.registry.policy import TrustPolicy
    from hotshoe.registry.trust import Trust

    return Trust(TrustPolicy.load(Path(path).expanduser()), store, root / "signatures")


def _max_bytes() -> int:
    text = os.environ.get("HOTSHOE_CACHE_BYTES", "").strip()
    if text and not text.isdigit():
        raise InvalidConfig(f"HOTSHOE_CACHE_BYTES is {text!r}: give a whole number of bytes")
    return int(text) if text else DEFAULT_MAX_BYTES
