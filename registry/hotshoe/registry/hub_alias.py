"""How an alias lies on the Hub: a branch that holds the files of the version it points to, and a marker.

So everybody's tools can load `revision="prod"`. The branch's head is the alias's etag, its log the history.
"""

from __future__ import annotations

from collections.abc import Mapping

from hotshoe.adapter.errors import AdapterNotFound, Conflict, VersionNotFound
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.hub import Draft, Entry, Hub
from hotshoe.registry.hub_layout import (
    changes_between,
    marker_in,
    move_title,
    pointing_nowhere,
    version_files,
)
from hotshoe.registry.store import Staged, gone
from hotshoe.registry.values import ALIAS_PATH, Marker, Move, targets_text
from hotshoe.registry.verification import SIGNATURE_PATH


def point(
    hub: Hub,
    adapter: AdapterName,
    alias: str,
    marker: Marker,
    expected: str | None,
    *,
    recorded: bool = False,
) -> str:
    """See `Store.move_alias`. Six small requests, seven for the first move of an alias, plus one for each
    small file that differs between the two versions."""
    # Of a move that is only told, the marker is all: nobody fetches what the alias has left already.
    wanted = {} if recorded else _wanted(hub, adapter, marker)
    try:
        parent = expected or _begin(hub, adapter, alias, marker if wanted else None)
        return hub.commit(str(adapter), alias, parent, _draft(hub, adapter, alias, marker, parent, wanted))
    except (Conflict, VersionNotFound):
        if landed := _landed(hub, adapter, alias, marker.promotion_id):
            return landed
        raise _elsewhere(hub, adapter, alias, expected) from None


def move(hub: Hub, adapter: AdapterName, alias: str, etag: str) -> Move:
    """See `Store.move`."""
    try:
        marker = Marker.parse(hub.read(str(adapter), etag, ALIAS_PATH), adapter)
    except VersionNotFound:
        hub.tree(str(adapter), etag)  # raises VersionNotFound where not even the commit is there
        marker = pointing_nowhere()
    return Move(adapter, alias, etag, marker)


def moves(hub: Hub, adapter: AdapterName, alias: str) -> list[Move]:
    """See `Store.moves`. One request for each fifty commits or so: the messages carry the markers."""
    try:
        log = hub.log(str(adapter), alias)
    except (AdapterNotFound, VersionNotFound):
        return []
    found = ((entry.commit, marker_in(entry.message, adapter)) for entry in reversed(log))
    return [Move(adapter, alias, commit, marker) for commit, marker in found if marker is not None]


def version_tree(hub: Hub, adapter: AdapterName, commit: str) -> dict[str, Entry]:
    """The files of a version, without what only the Hub needs; VersionNotFound."""
    tree = hub.tree(str(adapter), commit)
    manifest = None
    if MANIFEST_PATH in tree:
        manifest = Manifest.parse(hub.read(str(adapter), commit, MANIFEST_PATH))
    return {path: tree[path] for path in sorted(version_files(tree, manifest))}


def _wanted(hub: Hub, adapter: AdapterName, marker: Marker) -> dict[str, Entry]:
    """The files that the alias will hold, those of its first target; Conflict where one is not there."""
    trees = []
    for target in marker.to:
        try:
            trees.append(version_tree(hub, adapter, target.version.commit))
        except VersionNotFound as error:
            raise gone(hub.endpoint, target.version) from error
    return trees[0] if trees else {}


def _begin(hub: Hub, adapter: AdapterName, alias: str, marker: Marker | None) -> str:
    """Make the branch, where the marker's first version is or else anywhere; Conflict where there is one.
    Until the marker is in, it is an alias to nowhere."""
    there = marker.to if marker else ()
    start = there[0].version.commit if there else hub.heads(str(adapter)).branches["main"]
    hub.branch(str(adapter), alias, start)
    return start


def _draft(
    hub: Hub,
    adapter: AdapterName,
    alias: str,
    marker: Marker,
    parent: str,
    wanted: Mapping[str, Entry],
) -> Draft:
    current = {path: entry.blob for path, entry in hub.tree(str(adapter), parent).items()}
    changes = changes_between(current, {path: entry.blob for path, entry in wanted.items()})
    source = marker.to[0].version.commit if marker.to else ""
    write: dict[str, Staged | bytes] = {ALIAS_PATH: marker.canonical()}
    for path in {MANIFEST_PATH, SIGNATURE_PATH}.intersection(changes.write):
        # Known already, or soon wanted; to copy a small file, the client would fetch it each time.
        write[path] = hub.read(str(adapter), source, path)
    return Draft(
        move_title(alias, marker),
        marker.canonical().decode(),
        write=write,
        copy=[path for path in changes.write if path not in write],
        source=source,
        delete=changes.delete,
    )


def _landed(hub: Hub, adapter: AdapterName, alias: str, promotion_id: str) -> str | None:
    """The etag of this very move, if it happened and only its answer was lost."""
    made = (move for move in moves(hub, adapter, alias) if move.promotion_id == promotion_id)
    return next((move.etag for move in made), None)


def _elsewhere(hub: Hub, adapter: AdapterName, alias: str, expected: str | None) -> Conflict:
    etag = hub.heads(str(adapter)).branches.get(alias)
    target = targets_text(move(hub, adapter, alias, etag).to) if etag else "nothing"
    return Conflict(
        f"{adapter}@{alias} moved: it is at {target} with etag {etag}, not at etag {expected}; look at it "
        "again, then promote",
        details={"adapter": str(adapter), "alias": alias, "etag": etag or "", "target": target},
    )
