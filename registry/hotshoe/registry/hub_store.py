"""The store on the Hugging Face Hub: one model repo an adapter, readable by anybody's tools.

How an adapter lies in its repo stands in `hub_layout`, how versions come there in `hub_publish` and go in
`hub_retire`, how aliases move in `hub_alias`, how changes are noticed in `hub_watch`. Each change is one
commit that names its parent, so of many at once one wins and the others know. Who is told "somebody was
faster" may have been faster than itself, with the answer lost: every commit carries an id, by which its
maker knows it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from hotshoe.adapter.errors import (
    AdapterNotFound,
    InvalidReference,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Tampered,
    VersionNotFound,
)
from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import hub_alias, hub_publish, hub_retire, hub_verify
from hotshoe.registry.disk import using_disk
from hotshoe.registry.hub import PUBLIC_ENDPOINT, Hub
from hotshoe.registry.hub_layout import PublicationNote, refs_from
from hotshoe.registry.hub_url import HubPlace, checked_endpoint
from hotshoe.registry.hub_watch import Lookout
from hotshoe.registry.store import Files, Progress, Refs, unseen
from hotshoe.registry.tags import tags_of
from hotshoe.registry.values import (
    AdapterSummary,
    Change,
    Marker,
    Move,
    Proof,
    Publication,
    targets_text,
)
from hotshoe.registry.webhook import SECRET_VARIABLE, WebhookReceiver

_AT_ONCE = 8

log = logging.getLogger(__name__)


class HubStore:
    """A `Store` of the adapters of some organizations on one Hub.

    token: None is the user's own. hub: the door to use instead of one to `place` with that token.
    """

    def __init__(self, place: HubPlace, *, token: str | None = None, hub: Hub | None = None) -> None:
        self._hub = hub or Hub(place.endpoint, token)
        # From now on it is known which Hub that is, whatever becomes of the environment.
        endpoint = checked_endpoint(self._hub.endpoint)
        other = None if endpoint == PUBLIC_ENDPOINT else endpoint
        self._place = replace(place, endpoint=other)
        self._lookout = Lookout(self.refs, self._names, place.poll_seconds)
        self._webhooks: WebhookReceiver | None = None
        self._opening = threading.Lock()

    @property
    def url(self) -> str:
        return str(self._place)

    def generation(self) -> None:
        return None

    def survey(self) -> Iterable[AdapterSummary]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from filter(None, pool.map(self._summary, self._names()))

    def refs(self, adapter: AdapterName) -> Refs:
        heads = self._hub.heads(self._repo(adapter))
        refs = refs_from(adapter, heads.tags, heads.branches)
        if not refs.versions:
            raise AdapterNotFound(f"{adapter} has no version in {self.url} yet: publish one first")
        return refs

    def publications(self, adapter: AdapterName) -> Mapping[str, Publication]:
        tagged = set(self.refs(adapter).versions.values())
        told = {}
        for entry in self._hub.log(str(adapter), "main"):
            if entry.commit in tagged:
                note = PublicationNote.find(entry.message)
                # A tag v1 that somebody made by hand is a version too, if it holds a manifest.
                told[entry.commit] = (
                    note.publication
                    if note
                    else Publication(
                        entry.author, entry.title, entry.at, self._manifest(adapter, entry.commit).sha256
                    )
                )
        return told

    def read(self, adapter: AdapterName, commit: str, path: str) -> bytes:
        return self._hub.read(self._repo(adapter), commit, path)

    def tree(self, adapter: AdapterName, commit: str) -> Mapping[str, int]:
        self._repo(adapter)
        tree = hub_alias.version_tree(self._hub, adapter, commit)
        return {path: entry.size for path, entry in tree.items()}

    def fetch(self, adapter: AdapterName, commit: str, paths: Sequence[str], folder: Path) -> None:
        self._hub.download(self._repo(adapter), commit, paths, folder)

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        with using_disk(
            "nothing can be published without a folder for a while", "set TMPDIR to one with room"
        ):
            temporary = tempfile.TemporaryDirectory(prefix="hotshoe-")
        with temporary as folder:
            yield Path(folder)

    def add_version(
        self,
        adapter: AdapterName,
        files: Files,
        publication: Publication,
        *,
        newest: int,
        number: int,
    ) -> str:
        self._repo(adapter)
        try:
            return hub_publish.add_version(
                self._hub,
                adapter,
                files,
                publication,
                newest=newest,
                number=number,
                private=self._place.private,
            )
        finally:
            self.hint(adapter)

    def move_alias(
        self,
        adapter: AdapterName,
        alias: str,
        marker: Marker,
        *,
        expected: str | None,
        recorded: bool = False,
    ) -> str:
        self._repo(adapter)
        try:
            etag = hub_alias.point(self._hub, adapter, alias, marker, expected, recorded=recorded)
            if not recorded:
                hub_retire.after_move(self._hub, adapter, marker)
            return etag
        finally:
            self.hint(adapter)

    def move(self, adapter: AdapterName, alias: str, etag: str) -> Move:
        self._repo(adapter)
        return hub_alias.move(self._hub, adapter, alias, etag)

    def moves(self, adapter: AdapterName, alias: str) -> list[Move]:
        self._repo(adapter)
        return hub_alias.moves(self._hub, adapter, alias)

    def retire(self, adapter: AdapterName, number: int) -> None:
        refs = self.refs(adapter)
        if number not in refs.versions:
            raise VersionNotFound(f"{adapter} has no version v{number} in {self.url}")
        hub_retire.retire(self._hub, refs, number, partial(self.move, adapter))

    def sweep(self) -> int:
        """No bytes: the Hub keeps its own house, and history is never rewritten."""
        for adapter in self._names():
            try:
                hub_retire.mend(self._hub, self.refs(adapter), partial(self.move, adapter))
            except (NotFound, Tampered, PermissionDenied) as error:
                # One repo that is broken must not keep the others from being mended.
                log.warning("%s is left as it is: %s", adapter, error)
        return 0

    def changes(
        self, cursor: str | None, adapters: Collection[AdapterName] | None = None
    ) -> tuple[list[Change], str]:
        self._listen()
        return self._lookout.changes(cursor, adapters)

    def hint(self, adapter: AdapterName) -> None:
        """Somebody (a webhook) says that the adapter's refs moved: `changes` looks at once."""
        self._lookout.hint(adapter)

    def verify(self, head: str | None = None, progress: Progress = unseen) -> Proof:
        if head is not None:
            raise InvalidRequest(
                f"{self.url} has no head to compare with: every adapter there is a git repo of its own; "
                "verify it without one"
            )
        names, entries = self._names(), 0
        for done, adapter in enumerate(names):
            progress(done, len(names))
            entries += hub_verify.verify(self, adapter)
        progress(len(names), len(names))
        return Proof(entries)

    def close(self) -> None:
        """Stop listening for webhooks. (The connections are huggingface_hub's, one client a process.)"""
        with self._opening:
            if self._webhooks is not None:
                self._webhooks.stop()
                self._webhooks = None

    def _listen(self) -> None:
        """Take webhooks from now on, if the URL says so: only who watches needs the port."""
        with self._opening:
            if self._place.webhooks is not None and self._webhooks is None:
                host, port = self._place.webhooks
                secret = os.environ.get(SECRET_VARIABLE, "")
                self._webhooks = WebhookReceiver(secret, self.hint, host=host, port=port)
                self._webhooks.start()

    def _repo(self, adapter: AdapterName) -> str:
        if adapter.org not in self._place.orgs:
            raise AdapterNotFound(
                f"{adapter} is not in {self.url}: open hub://{adapter.org} for the adapters of {adapter.org}"
            )
        return str(adapter)

    def _names(self) -> list[AdapterName]:
        names = []
        for org in self._place.orgs:
            for repo in self._hub.repos(org):
                with contextlib.suppress(InvalidReference):
                    names.append(AdapterName.parse(repo))
        return sorted(names)

    def _manifest(self, adapter: AdapterName, commit: str) -> Manifest:
        return Manifest.parse(self.read(adapter, commit, MANIFEST_PATH))

    def _summary(self, adapter: AdapterName) -> AdapterSummary | None:
        """A line of a listing; None for a repo that is no adapter, or none that can be read."""
        try:
            return self._summarized(self.refs(adapter))
        except AdapterNotFound:
            return None
        except (Tampered, VersionNotFound, PermissionDenied) as error:
            # One repo that is broken, or gated, must not hide all the others of its organization.
            log.warning("%s is left out of the listing: %s", adapter, error)
            return None

    def _summarized(self, refs: Refs) -> AdapterSummary:
        adapter = refs.adapter
        manifest = self._manifest(adapter, refs.versions[refs.newest])
        heads = {alias: self.move(adapter, alias, etag).to for alias, etag in sorted(refs.aliases.items())}
        return AdapterSummary(
            adapter,
            refs.newest,
            len(refs.versions),
            {alias: targets_text(to) for alias, to in heads.items() if to},
            manifest.base.repo,
            manifest.metrics,
            tags_of(manifest),
        )
