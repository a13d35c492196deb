"""Would a run give what is published already? Then it need not run: maintenance by `--if-changed`."""

from __future__ import annotations

from hotshoe.adapter.errors import NotFound
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import AdapterName, AdapterRef, VersionNumber
from hotshoe.adapter.version import Version
from hotshoe.registry.base import fetch_base
from hotshoe.train.config import TrainConfig
from hotshoe.train.facts import inputs_digest
from hotshoe.train.parent import Parents, fetch_parents
from hotshoe.train.sources import read_source


def unchanged(config: TrainConfig, published: Parents, numbers: list[int]) -> Version | None:
    """The newest of the adapter's versions, if config, rows, base and parents are those it was made of.

    published: the registry. numbers: the adapter's version numbers. Rows are hashed, not checked.
    """
    name = config.adapter
    if name is None or not numbers:
        return None
    version, manifest = _newest(name, published, max(numbers))
    if version is None or manifest is None:
        return None
    digests = {key: read_source(place).sha256 for key, place in config.data.places().items()}
    base = fetch_base(config.base)
    now = inputs_digest(config, base.base, digests, fetch_parents(config, published, base))
    return version if manifest.training.get("inputs_sha256") == now else None


def _newest(name: AdapterName, published: Parents, number: int) -> tuple[Version | None, Manifest | None]:
    try:
        version = published.version(AdapterRef(name, VersionNumber(number)))
    except NotFound:
        return None, None
    return version, published.manifest(version)
