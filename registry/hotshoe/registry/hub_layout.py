"""How an adapter lies in a Hub repo: tags, branches, hidden files, commit messages. Pure; no network.

    main            one commit a version, its tree exactly the version's files
    tags v1, v2 ..  name those commits
    other branches  aliases: the files of the version they point to, and the marker

Beside the files that a manifest lists, a tree may hold `.gitattributes`, which the Hub itself puts there,
the card, the marker of an alias, and the publication: a file that differs in every commit, because a
commit that changes nothing is silently skipped by the client, and then nothing would be checked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hotshoe.adapter.errors import HotshoeError, Tampered
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import MAX_NUMBER, AdapterName, Alias, VersionNumber, parse_selector
from hotshoe.registry.card import CARD_PATH
from hotshoe.registry.store import Refs
from hotshoe.registry.values import ALIAS_PATH, Marker, Publication, targets_text

PUBLICATION_PATH = ".hotshoe/publication.json"
GIT_ATTRIBUTES = ".gitattributes"
HIDDEN = frozenset({GIT_ATTRIBUTES, ALIAS_PATH, PUBLICATION_PATH, CARD_PATH})

Tree = Mapping[str, str]
"""A tree as git sees it: path to blob id. Equal ids are equal bytes."""


@dataclass(frozen=True, slots=True)
class PublicationNote:
    """What stands in the publication file and in the message of the same commit.

    id: different for every attempt to publish, so that a publisher whose answer was lost knows its own
    commit. number: the version number it was meant to get.
    """

    id: str
    number: int
    publication: Publication

    def text(self) -> str:
        said = self.publication
        return json.dumps(
            {
                "schema": 1,
                "id": self.id,
                "number": self.number,
                "actor": said.actor,
                "message": said.message,
                "at": said.at.astimezone(UTC).isoformat(),
                "manifest_sha256": said.manifest_sha256,
            },
            sort_keys=True,
            ensure_ascii=False,
        )

    @classmethod
    def find(cls, text: str) -> PublicationNote | None:
        """The note in a file or a commit message; None where a stranger wrote something else."""
        try:
            raw = json.loads(text)
            at = datetime.fromisoformat(raw["at"]).astimezone(UTC)
            said = Publication(str(raw["actor"]), str(raw["message"]), at, str(raw["manifest_sha256"]))
            raw["actor"].encode(), raw["message"].encode()  # JSON can hide half a surrogate.
            number = int(raw["number"])
            return cls(str(raw["id"]), number, said) if 1 <= number <= MAX_NUMBER else None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Changes:
    """What turns one tree into another. Paths, sorted."""

    delete: tuple[str, ...]
    write: tuple[str, ...]


def changes_between(current: Tree, wanted: Tree) -> Changes:
    """What gives `current` the files of `wanted` and no others; the Hub's file and the marker stay."""
    kept = {GIT_ATTRIBUTES, ALIAS_PATH}
    stale = [path for path in current if path not in wanted and path not in kept]
    fresh = [path for path, blob in wanted.items() if current.get(path) != blob]
    return Changes(tuple(sorted(stale)), tuple(sorted(fresh)))


def version_files(tree: Iterable[str], manifest: Manifest | None) -> frozenset[str]:
    """The paths of a tree that are the version's, or nobody's; the card counts if the manifest lists it."""
    listed = {entry.path for entry in manifest.files} if manifest else set()
    return frozenset(path for path in tree if path in listed or path not in HIDDEN)


def refs_from(adapter: AdapterName, tags: Mapping[str, str], branches: Mapping[str, str]) -> Refs:
    """Sort tags and branches (name to commit) into versions and aliases; other names are nobody's."""
    versions = {}
    for name, commit in tags.items():
        match _selector(name):
            case VersionNumber(number):
                versions[number] = commit
    aliases = {name: commit for name, commit in branches.items() if isinstance(_selector(name), Alias)}
    return Refs(adapter, dict(sorted(versions.items())), aliases)


def pointing_nowhere() -> Marker:
    """What a branch without a marker is: an alias that was never set.

    Somebody died, or is just now, between making the branch and making the alias; or made it by hand.
    """
    return Marker("unset", (), (), None, "", "", "", datetime.fromtimestamp(0, UTC))


def marker_in(message: str, adapter: AdapterName) -> Marker | None:
    """The marker that a commit message on an alias branch carries; None for any other commit."""
    try:
        return Marker.parse(message.strip().encode(), adapter) if '"promotion_id"' in message else None
    except Tampered:
        return None


def move_title(alias: str, marker: Marker) -> str:
    """The first line of an alias commit, for people who look at the repo."""
    return f"{alias}: {targets_text(marker.before)} -> {targets_text(marker.to)}"


def publication_title(number: int, message: str) -> str:
    """The first line of a version's commit."""
    first = next((line.strip() for line in message.splitlines() if line.strip()), "")
    return f"v{number}: {first}"[:72] if first else f"v{number}"


def _selector(name: str) -> object:
    try:
        return parse_selector(name)
    except HotshoeError:
        return None
