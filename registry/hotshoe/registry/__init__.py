"""Versioned adapters with movable aliases, in a folder or on the Hugging Face Hub.

registry = open_registry("~/adapters")
version = registry.publish(folder, AdapterName.parse("acme/support"), base=fetch_base("org/model"))
registry.promote(version.adapter, "prod", version.number, reason="better on billing mails")
"""

from hotshoe.registry.base import BaseModel, fetch_base
from hotshoe.registry.opening import open_registry
from hotshoe.registry.promotion import UNSET
from hotshoe.registry.registry import Registry
from hotshoe.registry.values import (
    AdapterState,
    AdapterSummary,
    AliasState,
    Change,
    Move,
    Proof,
    Target,
    VersionState,
    targets_text,
)

__all__ = [
    "UNSET",
    "AdapterState",
    "AdapterSummary",
    "AliasState",
    "BaseModel",
    "Change",
    "Move",
    "Proof",
    "Registry",
    "Target",
    "VersionState",
    "fetch_base",
    "open_registry",
    "targets_text",
]
