"""What the events of a local store's log say, as canonical JSON; and the proof that the log is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hotshoe.adapter.errors import Tampered
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.local_index import GENESIS, Index, chained
from hotshoe.registry.store import Files
from hotshoe.registry.values import Change, Marker, Move, Publication, tags_of

Entry = tuple[str, int, str]
"""A file of a tree: path, size in bytes, sha256."""


def version_added(
    adapter: AdapterName, number: int, commit: str, files: Sequence[Entry], publication: Publication
) -> str:
    return _canonical(
        kind="version",
        adapter=str(adapter),
        number=number,
        commit=commit,
        files=files,
        publication={
            "actor": publication.actor,
            "message": publication.message,
            "at": publication.at.astimezone(UTC).isoformat(),
            "manifest_sha256": publication.manifest_sha256,
        },
    )


def alias_moved(adapter: AdapterName, alias: str, marker: Marker) -> str:
    return _canonical(kind="alias", adapter=str(adapter), alias=alias, marker=marker.canonical().decode())


def version_retired(adapter: AdapterName, number: int) -> str:
    return _canonical(kind="retired", adapter=str(adapter), number=number)


def commit_of(adapter: AdapterName, number: int, files: Sequence[Entry]) -> str:
    """40 hex digits over all that a version is."""
    body = _canonical(adapter=str(adapter), number=number, files=files)
    return hashlib.sha256(body.encode()).hexdigest()[:40]


def publication(body: str) -> Publication:
    """The publication that a version's event tells of."""
    raw = json.loads(body)["publication"]
    return Publication(
        raw["actor"], raw["message"], datetime.fromisoformat(raw["at"]), raw["manifest_sha256"]
    )


def move(etag: str, body: str) -> Move:
    """The move that an alias's event tells of."""
    raw = json.loads(body)
    adapter = AdapterName.parse(raw["adapter"])
    return Move(adapter, raw["alias"], etag, Marker.parse(raw["marker"].encode(), adapter))


def change(etag: str, body: str) -> Change | None:
    """What watchers are told of an event; None for one that changes nothing for them."""
    raw = json.loads(body)
    adapter = AdapterName.parse(raw["adapter"])
    if raw["kind"] == "alias":
        return Change(adapter, raw["alias"], etag)
    if raw["kind"] == "version":
        return Change(adapter, "", f"v{raw['number']}")
    return None


def summary_of(files: Files) -> str:
    """What a listing shows of a version, taken from its manifest once, when it is published."""
    data = files[MANIFEST_PATH]
    if not isinstance(data, bytes):
        raise TypeError(f"{MANIFEST_PATH} is given as bytes")
    manifest = Manifest.parse(data)
    return _canonical(base=manifest.base.repo, metrics=dict(manifest.metrics), tags=list(tags_of(manifest)))


def summary_fields(text: str) -> dict[str, Any]:
    """Those fields of an AdapterSummary that `summary_of` kept."""
    raw = json.loads(text)
    return {"base": raw["base"], "metrics": raw["metrics"], "tags": tuple(raw["tags"])}


def verify_log(index: Index, url: str) -> int:
    """Prove the chain of events whole, and that what readers look up is what it says; count the events."""
    previous, count = GENESIS, 0
    heads: dict[tuple[str, str], str] = {}
    trees: dict[str, list[list[Any]]] = {}
    for seq, sha256, etag, body in index.each("SELECT seq, sha256, etag, body FROM event ORDER BY seq"):
        if sha256 != chained(previous, body) or etag != sha256[:40]:
            raise Tampered(
                f"event {seq} of the registry {url} is not what was written; restore a backup. It says: "
                f"{body[:200]}"
            )
        previous, count = sha256, count + 1
        event = json.loads(body)
        if event["kind"] == "alias":
            heads[event["adapter"], event["alias"]] = etag
        elif event["kind"] == "version":
            trees[event["commit"]] = event["files"]
    _check_aliases(index, heads)
    _check_versions(index, trees)
    return count


def _check_aliases(index: Index, heads: Mapping[tuple[str, str], str]) -> None:
    rows = index.rows("SELECT a.name, t.name, t.etag FROM alias t JOIN adapter a ON a.id = t.adapter")
    for adapter, alias, etag in rows:
        if heads.get((adapter, alias)) != etag:
            raise Tampered(f"{adapter}@{alias} is at etag {etag}, which is not where the log left it")
    if len(rows) != len(heads):
        raise Tampered(f"the log knows {len(heads)} aliases, the index {len(rows)}: some were taken out")


def _check_versions(index: Index, trees: Mapping[str, list[list[Any]]]) -> None:
    rows = index.rows("SELECT a.name, t.number, t.tree FROM version t JOIN adapter a ON a.id = t.adapter")
    for adapter, number, tree in rows:
        if tree not in trees:
            raise Tampered(f"{adapter}@v{number} is in the index, but the log never saw it published")
    if len(rows) != len(trees):
        raise Tampered(f"the log knows {len(trees)} versions, the index {len(rows)}: some were taken out")
    for tree, path, size, sha256 in index.each("SELECT tree, path, size, sha256 FROM file"):
        if [path, size, sha256] not in trees.get(tree, []):
            raise Tampered(f"{path} of the version with commit {tree[:12]} is not the one that was published")


def _canonical(**document: Any) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
