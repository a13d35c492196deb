"""What a registry knows, as plain values: targets, moves of aliases, states, changes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from hotshoe.adapter.errors import Refused, Tampered
from hotshoe.adapter.manifest import Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version

ALIAS_PATH = ".hotshoe/alias.json"
"""Where a store that keeps aliases as trees (the Hub) writes the marker."""

MAX_TARGETS = 8
MAX_WEIGHT = 10_000
"""How many versions an alias may split between, and the largest share of one."""

MARKER_SCHEMA = 1
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"v[1-9][0-9]{0,8}")
ACTIONS = ("promote", "rollback", "unset")


@dataclass(frozen=True, slots=True)
class Target:
    """A version that an alias points to, with its share of the traffic (1 of 1 unless the alias splits)."""

    version: Version
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reference names. recalled: the store did not answer, and this is what was known of it before."""

    targets: tuple[Target, ...]
    recalled: bool = False


@dataclass(frozen=True, slots=True)
class Marker:
    """One move of one alias, as it is written down for good.

    to: where the alias points from now on, heaviest first; empty means that it was unset.
    before: where it pointed until now; empty means nowhere. previous: the etag it replaced, None at first.
    promotion_id: different for every intended move; the same id sent twice is one move.
    at: aware UTC time. action: one of ACTIONS; rollback needs it to walk back and not to and fro.
    """

    action: str
    to: tuple[Target, ...]
    before: tuple[Target, ...]
    previous: str | None
    actor: str
    reason: str
    promotion_id: str
    at: datetime

    def canonical(self) -> bytes:
        """The bytes that a store keeps: UTF-8 JSON, keys sorted, no spaces."""
        first = self.to[0].version if self.to else None
        document = {
            "schema": MARKER_SCHEMA,
            "action": self.action,
            "version": first.tag if first else None,
            "commit": first.commit if first else None,
            "manifest_sha256": first.manifest_sha256 if first else None,
            "to": [_target_json(target) for target in self.to],
            "before": [_target_json(target) for target in self.before],
            "previous": self.previous,
            "actor": self.actor,
            "reason": self.reason,
            "promotion_id": self.promotion_id,
            "at": self.at.astimezone(UTC).isoformat(),
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, data: bytes, adapter: AdapterName) -> Marker:
        """Read a marker that a stranger may have written; raise Tampered for one that is not whole."""
        try:
            raw = json.loads(data)
            if raw["schema"] != MARKER_SCHEMA:
                raise Tampered(
                    f"alias marker schema {raw['schema']!r} is not {MARKER_SCHEMA}: upgrade hotshoe"
                )
            at = datetime.fromisoformat(raw["at"])
            if at.tzinfo is None:
                raise ValueError("the time has no zone")
            if raw["action"] not in ACTIONS:
                raise ValueError(f"action {raw['action']!r} is unknown")
            return cls(
                action=raw["action"],
                to=_targets(adapter, raw["to"]),
                before=_targets(adapter, raw["before"]),
                previous=None if raw["previous"] is None else str(raw["previous"]),
                actor=str(raw["actor"]),
                reason=str(raw["reason"]),
                promotion_id=str(raw["promotion_id"]),
                at=at.astimezone(UTC),
            )
        except Tampered:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
            raise Tampered(
                f"alias marker of {adapter} is not readable: {type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True, slots=True)
class Move:
    """A move that happened. etag: names the state it made, the one to hand back as `expected`."""

    adapter: AdapterName
    alias: str
    etag: str
    marker: Marker

    @property
    def action(self) -> str:
        return self.marker.action

    @property
    def to(self) -> tuple[Target, ...]:
        return self.marker.to

    @property
    def before(self) -> tuple[Target, ...]:
        return self.marker.before

    @property
    def actor(self) -> str:
        return self.marker.actor

    @property
    def reason(self) -> str:
        return self.marker.reason

    @property
    def promotion_id(self) -> str:
        return self.marker.promotion_id

    @property
    def at(self) -> datetime:
        return self.marker.at

    @property
    def version(self) -> Version | None:
        """The version the alias points to (the heaviest one of a split), None after an unset."""
        return self.marker.to[0].version if self.marker.to else None


@dataclass(frozen=True, slots=True)
class Publication:
    """Who published a version, when (aware UTC time) and with what words; kept beside its tree.

    manifest_sha256: of the version's manifest, so that one call tells whether content is there already.
    """

    actor: str
    message: str
    at: datetime
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class VersionState:
    """A version with everything that is known of it."""

    version: Version
    manifest: Manifest
    publication: Publication


@dataclass(frozen=True, slots=True)
class AliasState:
    """An alias that points somewhere: its last move, and with it the etag."""

    move: Move

    @property
    def etag(self) -> str:
        return self.move.etag

    @property
    def targets(self) -> tuple[Target, ...]:
        return self.move.to

    @property
    def version(self) -> Version:
        """The version it points to; the heaviest one of a split."""
        return self.move.to[0].version


@dataclass(frozen=True, slots=True)
class AdapterState:
    """One adapter: versions in rising order, and the aliases that point somewhere."""

    adapter: AdapterName
    versions: tuple[VersionState, ...]
    aliases: Mapping[str, AliasState]

    @property
    def latest(self) -> VersionState:
        return self.versions[-1]


@dataclass(frozen=True, slots=True)
class AdapterSummary:
    """One line of a listing.

    latest: number of the newest version. versions: how many there are. aliases: name to what it points
    to, as text (`v7`, or `v8:10,v7:90` for a split). base, metrics and tags are the newest version's.
    """

    adapter: AdapterName
    latest: int
    versions: int
    aliases: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """Something that moved. alias: its name, empty where a version was published.

    target: the new etag of the alias, or the tag (`v7`) of the new version.
    """

    adapter: AdapterName
    alias: str
    target: str


@dataclass(frozen=True, slots=True)
class Proof:
    """That a registry is as it was written.

    entries: how many were checked. head: the sha256 (64 hex) of the newest one, which proves later that
    none was cut off; empty where the store keeps no log of its own (the Hub).
    """

    entries: int
    head: str = ""


def check_retirable(adapter: AdapterName, number: int, newest: int, heads: Iterable[Move]) -> None:
    """Raise Refused for the newest version, and for one that an alias points to."""
    if number == newest:
        raise Refused(f"{adapter}@v{number} is the newest version: it cannot be retired")
    for head in heads:
        if any(target.version.number == number for target in head.to):
            raise Refused(f"{adapter}@v{number} is what {head.alias} points to: move that first")


def targets_text(targets: tuple[Target, ...]) -> str:
    """`v7` for a plain alias, `v8:10,v7:90` for a split one, `nothing` for none."""
    if not targets:
        return "nothing"
    if len(targets) == 1:
        return targets[0].version.tag
    return ",".join(f"{target.version.tag}:{target.weight}" for target in targets)


def _target_json(target: Target) -> dict[str, Any]:
    version = target.version
    return {
        "version": version.tag,
        "commit": version.commit,
        "manifest_sha256": version.manifest_sha256,
        "weight": target.weight,
    }


def _targets(adapter: AdapterName, raw: list[Mapping[str, Any]]) -> tuple[Target, ...]:
    if not isinstance(raw, list) or len(raw) > MAX_TARGETS:
        raise ValueError(f"an alias points to at most {MAX_TARGETS} versions")
    return tuple(_target(adapter, target) for target in raw)


def _target(adapter: AdapterName, raw: Mapping[str, Any]) -> Target:
    tag, weight = raw["version"], raw["weight"]
    if not isinstance(weight, int) or isinstance(weight, bool) or not 1 <= weight <= MAX_WEIGHT:
        raise ValueError(f"weight {str(weight)[:20]} is not a whole number from 1 to {MAX_WEIGHT}")
    if not _VERSION.fullmatch(tag):
        raise ValueError(f"{tag[:20]!r} is no version such as v7")
    commit, digest = str(raw["commit"]), str(raw["manifest_sha256"])
    # Both become names of folders: what is not hex could lead anywhere.
    if not _COMMIT.fullmatch(commit) or not _SHA256.fullmatch(digest):
        raise ValueError(f"commit {commit!r} with manifest {digest!r} is not 40 and 64 hex digits")
    return Target(Version(adapter, int(tag[1:]), commit, digest), weight)
