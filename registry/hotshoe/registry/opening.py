"""From the URL that names a registry to the registry."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.registry.base import cache_folder
from hotshoe.registry.cache import Cache
from hotshoe.registry.local import LocalStore
from hotshoe.registry.registry import Registry
from hotshoe.registry.store import Store

HUB_PREFIX = "hub://"


def open_registry(url: str | os.PathLike[str] | None = None, *, cache: Path | None = None) -> Registry:
    """Open the registry that `url` names: a folder, or `hub://org`.

    None: HOTSHOE_REGISTRY, else a folder under the user's data directory. cache: where fetched versions
    are kept (default: HOTSHOE_CACHE, else the user's cache folder). Raises InvalidConfig,
    RegistryUnavailable.
    """
    named = os.fspath(url) if url else os.environ.get("HOTSHOE_REGISTRY")
    if not named:
        named = str(platformdirs.user_data_path("hotshoe", appauthor=False) / "registry")
    return Registry(_store(named), Cache((cache or cache_folder()) / "adapters"))


def _store(url: str) -> Store:
    if "://" in url:
        raise InvalidConfig(f"registry {url!r} is neither a folder nor {HUB_PREFIX}org: give one of these")
    return LocalStore(Path(url))
