"""What the events of a local store's log say, as canonical JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hotshoe.adapter.errors import InvalidReference, Tampered
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.store import Files
from hotshoe.registry.tags import tags_of
from hotshoe.registry.values import AdapterSummary, Change, Marker, Move, Publication

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
    """The publication that a version's event tells of; Tampered for a body that tells of none."""
    with _as_written():
        raw = json.loads(body)["publication"]
        return Publication(
            raw["actor"], raw["message"], datetime.fromisoformat(raw["at"]), raw["manifest_sha256"]
        )


def move(etag: str, body: str) -> Move:
    """The move that an alias's event tells of; Tampered for a body that tells of none."""
    with _as_written():
        raw = json.loads(body)
        adapter = AdapterName.parse(raw["adapter"])
        return Move(adapter, raw["alias"], etag, Marker.parse(raw["marker"].encode(), adapter))


def change(etag: str, body: str) -> Change | None:
    """What watchers are told of an event, None for one that changes nothing for them; Tampered."""
    with _as_written():
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


def summary(name: str, latest: int, versions: int, aliases: Mapping[str, str], kept: str) -> AdapterSummary:
    """A line of a listing, `kept` being what `summary_of` said of the newest version; Tampered."""
    with _as_written():
        raw = json.loads(kept)
        fields = raw["base"], raw["metrics"], tuple(raw["tags"])
        return AdapterSummary(AdapterName.parse(name), latest, versions, aliases, *fields)


@contextlib.contextmanager
def _as_written() -> Iterator[None]:
    """Say of what the index holds that it is not what was put there, where it cannot be read."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidReference) as error:
        raise Tampered(
            f"the index holds something that Hotshoe did not write ({type(error).__name__}: "
            f"{str(error)[:80]}): `hotshoe verify` says where; restore a backup"
        ) from error


def _canonical(**document: Any) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
