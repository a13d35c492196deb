"""Proof that an adapter's repo on the Hub is as Hotshoe left it: no tag, branch or file moved by hand.

Git chains the commits by hash already; this checks what git does not know of.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

from hotshoe.adapter.errors import RegistryUnavailable, Tampered, VersionNotFound
from hotshoe.adapter.manifest import MANIFEST_PATH
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.store import Refs, Store
from hotshoe.registry.values import Move

_ATTEMPTS = 10


def verify(store: Store, adapter: AdapterName) -> int:
    """Return how many versions and moves were checked; raise Tampered at the first bad one."""
    for _ in range(_ATTEMPTS):
        refs = store.refs(adapter)
        try:
            return _verified(store, refs)
        except Tampered:
            # It is asked in many requests; what was let go or moved between two of them is no wrong.
            if store.refs(adapter) == refs:
                raise
    raise RegistryUnavailable(f"{adapter} changes all the time: verify it again when less is done to it")


def _verified(store: Store, refs: Refs) -> int:
    adapter = refs.adapter
    _verify_versions(store, refs)
    logs = {alias: store.moves(adapter, alias) for alias in refs.aliases}
    for alias, log in logs.items():
        _verify_moves(store, refs, alias, log)
    return len(refs.versions) + sum(map(len, logs.values()))


def _verify_versions(store: Store, refs: Refs) -> None:
    told = store.publications(refs.adapter)
    for number, commit in refs.versions.items():
        if commit not in told:
            raise Tampered(f"the tag v{number} of {refs.adapter} names {commit[:12]}, which is not on main")
        if _manifest_sha256(store, refs.adapter, commit) != told[commit].manifest_sha256:
            raise Tampered(f"the manifest of {refs.adapter}@v{number} is not the one that was published")
    # Told newest first; numbers are given in the order of main, so a tag that somebody moved is out of it.
    place = {commit: -at for at, commit in enumerate(told)}
    for (one, before), (other, after) in itertools.pairwise(refs.versions.items()):
        if place[before] >= place[after]:
            raise Tampered(
                f"the tags v{one} and v{other} of {refs.adapter} are not in the order of main: one was moved"
            )


def _verify_moves(store: Store, refs: Refs, alias: str, log: Sequence[Move]) -> None:
    name, head = f"{refs.adapter}@{alias}", refs.aliases[alias]
    for before, move in itertools.pairwise(log):
        if move.marker.previous != before.etag:
            raise Tampered(
                f"{name}: the move {move.etag[:12]} does not follow {before.etag[:12]}, as it says"
            )
    for move in log:
        for version in (target.version for target in move.to):
            try:
                whole = _manifest_sha256(store, refs.adapter, version.commit) == version.manifest_sha256
            except VersionNotFound:
                # A mirror tells of moves whose versions were let go before they could be copied.
                whole = move is not log[-1]
            if not whole:
                raise Tampered(f"{name}: the move {move.etag[:12]} names a {version} that is not there")
    if log and log[-1] != store.move(refs.adapter, alias, head):
        raise Tampered(f"{name} was changed by hand: its head {head[:12]} is not its last move")
    for version in (target.version for target in log[-1].to) if log else ():
        if refs.versions.get(version.number) != version.commit:
            raise Tampered(
                f"{name} points to {version}, whose tag is gone: the next `hotshoe gc --yes` tags it again "
                f"if it was let go; or tag {version.commit} as {version.tag} by hand, or promote another"
            )


def _manifest_sha256(store: Store, adapter: AdapterName, commit: str) -> str:
    return hashlib.sha256(store.read(adapter, commit, MANIFEST_PATH)).hexdigest()
