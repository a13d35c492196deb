"""What was last known of adapters, on disk, for the hours in which the store cannot be asked."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.store import Refs
from hotshoe.registry.values import Marker, Move


@dataclass(frozen=True, slots=True)
class Recalled:
    """One adapter as it was at `at` (aware UTC time).

    moves: by etag. manifests: sha256 of the manifest by commit, of those versions that were looked at.
    """

    at: datetime
    refs: Refs
    moves: Mapping[str, Move] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)


class Recollection:
    """One small JSON file an adapter under `root`, for one store. Losing them loses nothing but comfort."""

    def __init__(self, root: Path, url: str) -> None:
        self._folder = root / hashlib.sha256(url.encode()).hexdigest()[:16]

    def load(self, adapter: AdapterName) -> Recalled | None:
        """What was kept of this adapter; None if that is nothing that can be read."""
        try:
            raw = json.loads(self._path(adapter).read_bytes())
            versions = {int(number): str(commit) for number, commit in raw["versions"].items()}
            moves = {
                etag: Move(adapter, alias, etag, Marker.parse(marker.encode(), adapter))
                for etag, (alias, marker) in raw["moves"].items()
            }
            refs = Refs(adapter, versions, dict(raw["aliases"]))
            return Recalled(datetime.fromisoformat(raw["at"]), refs, moves, dict(raw["manifests"]))
        except Exception:  # A file of a cache: whatever is wrong with it, it is as good as not there.
            return None

    def save(self, recalled: Recalled) -> None:
        """Keep it, with what was known before of the moves and manifests that still count."""
        refs, before = recalled.refs, self.load(recalled.refs.adapter)
        known_moves = {**(before.moves if before else {}), **recalled.moves}
        known_manifests = {**(before.manifests if before else {}), **recalled.manifests}
        document = {
            "at": recalled.at.astimezone(UTC).isoformat(),
            "versions": {str(number): commit for number, commit in refs.versions.items()},
            "aliases": dict(refs.aliases),
            "moves": {
                etag: [known_moves[etag].alias, known_moves[etag].marker.canonical().decode()]
                for etag in refs.aliases.values()
                if etag in known_moves
            },
            "manifests": {
                commit: known_manifests[commit]
                for commit in refs.versions.values()
                if commit in known_manifests
            },
        }
        path = self._path(refs.adapter)
        draft = path.with_name(f".{secrets.token_hex(6)}")
        # A full disk must not stop anybody who can be answered from the store.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(document))
            draft.replace(path)

    def _path(self, adapter: AdapterName) -> Path:
        return self._folder / adapter.org / f"{adapter.name}.json"
