"""How a version comes onto the Hub: a commit on `main`, then a tag.

A publisher that dies between the two leaves a head without a tag. Readers go by tags and never see it;
the next publisher tags it first. A tag cannot be made twice, so whoever makes it has the number.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping

from hotshoe.adapter.errors import AdapterNotFound, Conflict, VersionNotFound
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.card import CARD_PATH, render_card
from hotshoe.registry.hub import Draft, Heads, Hub
from hotshoe.registry.hub_layout import (
    GIT_ATTRIBUTES,
    PUBLICATION_PATH,
    PublicationNote,
    publication_title,
    refs_from,
)
from hotshoe.registry.store import Files, Staged
from hotshoe.registry.values import Publication


def add_version(
    hub: Hub,
    adapter: AdapterName,
    files: Files,
    publication: Publication,
    *,
    newest: int,
    number: int,
    private: bool,
) -> str:
    """See `Store.add_version`. private: whether a repo that has to be made is."""
    heads = _heads_of_old_or_new(hub, adapter, private=private)
    versions = refs_from(adapter, heads.tags, heads.branches).versions
    found, head = max(versions, default=0), heads.branches["main"]
    if left := _left_behind(hub, adapter, head, versions.values()):
        commit, note = left
        found = max(note.number, found + 1)
        _tag(hub, adapter, found, commit)
        if found == number and note.publication.manifest_sha256 == publication.manifest_sha256:
            return commit
    if found != newest:
        raise Conflict(
            f"{adapter} is at v{found} by now, not at v{newest}: read again, then publish",
            details={"adapter": str(adapter), "target": f"v{found}"},
        )
    note = PublicationNote(uuid.uuid4().hex, number, publication)
    commit = _commit(hub, adapter, head, files, note)
    _tag(hub, adapter, number, commit)
    return commit


def _heads_of_old_or_new(hub: Hub, adapter: AdapterName, *, private: bool) -> Heads:
    try:
        return hub.heads(str(adapter))
    except AdapterNotFound:
        hub.create(str(adapter), private=private)
        return hub.heads(str(adapter))


def _left_behind(
    hub: Hub, adapter: AdapterName, head: str, tagged: Collection[str]
) -> tuple[str, PublicationNote] | None:
    """The newest publication that got no tag, with its commit."""
    if head in tagged:
        return None
    try:
        text = hub.read(str(adapter), head, PUBLICATION_PATH).decode()
    except VersionNotFound:
        return None
    # Somebody may have edited `main` since by hand, so the head need not be the publication itself.
    wanted = PublicationNote.find(text)
    for entry in hub.log(str(adapter), head):
        note = PublicationNote.find(entry.message)
        if note is not None and wanted is not None and note.id == wanted.id:
            return None if entry.commit in tagged else (entry.commit, note)
    return None


def _commit(hub: Hub, adapter: AdapterName, head: str, files: Files, note: PublicationNote) -> str:
    write: dict[str, Staged | bytes] = {**files, PUBLICATION_PATH: note.text().encode()}
    if CARD_PATH not in files:
        write[CARD_PATH] = _card(files, note.number)
    stale = [path for path in hub.tree(str(adapter), head) if path not in write and path != GIT_ATTRIBUTES]
    title = publication_title(note.number, note.publication.message)
    draft = Draft(title, note.text(), write=write, delete=stale)
    try:
        return hub.commit(str(adapter), "main", head, draft)
    except Conflict:
        if landed := _landed(hub, adapter, note):
            return landed
        raise


def _landed(hub: Hub, adapter: AdapterName, note: PublicationNote) -> str | None:
    """The commit of this very attempt, if it happened and only its answer was lost."""
    for entry in hub.log(str(adapter), "main"):
        found = PublicationNote.find(entry.message)
        if found is not None and found.id == note.id:
            return entry.commit
    return None


def _tag(hub: Hub, adapter: AdapterName, number: int, commit: str) -> None:
    """Give a commit its number; Conflict where the number is another's by now."""
    try:
        hub.tag(str(adapter), f"v{number}", commit)
    except Conflict:
        # Another publisher may have made the same tag for us, or our own answer was lost.
        if hub.heads(str(adapter)).tags.get(f"v{number}") != commit:
            raise


def _card(files: Mapping[str, Staged | bytes], number: int) -> bytes:
    data = files[MANIFEST_PATH]
    if not isinstance(data, bytes):
        raise TypeError(f"{MANIFEST_PATH} is given as bytes")
    return render_card(Manifest.parse(data), number)
