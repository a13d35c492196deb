"""How a version goes from the Hub, and comes back where somebody promoted it meanwhile.

To let a version go is to delete its tag; to promote it is to move a branch. The Hub orders the two by
nothing. So each side does its own first and looks at the other's after it: the collector deletes the tag,
then reads the aliases; the promoter moves the alias, then reads the tags. Whichever is first, one of them
sees both, and tags the version again. What dies before it looked is made good by the next collection.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterable

from hotshoe.adapter.errors import Conflict, HotshoeError, VersionNotFound
from hotshoe.adapter.manifest import MANIFEST_PATH
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry.hub import Hub
from hotshoe.registry.hub_layout import refs_from
from hotshoe.registry.store import Refs
from hotshoe.registry.values import Marker, Move, Target, check_retirable

log = logging.getLogger(__name__)

Head = Callable[[str, str], Move]
"""The move that an alias and its etag stand for."""


def retire(hub: Hub, refs: Refs, number: int, head: Head) -> None:
    """See `Store.retire`; `refs` are those of a moment ago."""
    check_retirable(refs.adapter, number, refs.newest, _heads(refs, head))
    # Gone already: another collection was here, or our own, whose answer was lost.
    with contextlib.suppress(VersionNotFound):
        hub.untag(str(refs.adapter), f"v{number}")
    now = _refs(hub, refs.adapter)
    heads = _heads(now, head)
    _bring_back(hub, now, (target for move in heads for target in move.to))
    check_retirable(refs.adapter, number, now.newest, heads)


def after_move(hub: Hub, adapter: AdapterName, marker: Marker) -> None:
    """What a promoter does last: tag again what was let go while it was promoted. One request.

    The alias has moved, whatever comes of this; what cannot be seen now is left to the next collection.
    """
    if not marker.to:
        return
    try:
        _bring_back(hub, _refs(hub, adapter), marker.to)
    except HotshoeError as error:
        log.warning("%s was promoted, but not looked at again: %s", adapter, error)


def mend(hub: Hub, refs: Refs, head: Head) -> None:
    """Tag again what an alias points to and has lost its tag; asks nothing where that is nothing."""
    _bring_back(hub, refs, (target for move in _heads(refs, head) for target in move.to))


def _bring_back(hub: Hub, refs: Refs, targets: Iterable[Target]) -> None:
    for version in dict.fromkeys(target.version for target in targets):
        if version.number not in refs.versions and _was_published(hub, refs, version):
            log.warning("%s was let go while somebody promoted it: it stays", version)
            try:
                hub.tag(str(version.adapter), version.tag, version.commit)
            except Conflict:
                # The other side saw both too, and was faster.
                if _refs(hub, version.adapter).versions.get(version.number) != version.commit:
                    raise


def _was_published(hub: Hub, refs: Refs, version: Version) -> bool:
    """Whether it ever was what it is called. A branch can be written by hand, and must make no version."""
    if version.number >= refs.newest or version.commit in refs.versions.values():
        return False
    if version.commit not in {entry.commit for entry in hub.log(str(version.adapter), "main")}:
        return False
    manifest = hub.read(str(version.adapter), version.commit, MANIFEST_PATH)
    return hashlib.sha256(manifest).hexdigest() == version.manifest_sha256


def _heads(refs: Refs, head: Head) -> list[Move]:
    return [head(alias, etag) for alias, etag in refs.aliases.items()]


def _refs(hub: Hub, adapter: AdapterName) -> Refs:
    heads = hub.heads(str(adapter))
    return refs_from(adapter, heads.tags, heads.branches)
