"""A store that can be made to fail: not answering at all, or doing what it is told and losing the answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from hotshoe.adapter.errors import RegistryUnavailable
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.store import Files, Progress, Refs, Store, unseen
from hotshoe.registry.values import AdapterSummary, Change, Marker, Move, Proof, Publication


class FailingStore:
    """Another store behind a line that fails. It cannot say cheaply that nothing changed, like the Hub.

    down: no call gets through. refs_lost: that many of the next calls of `refs` do not.
    answers_lost: that many of the next moves and versions happen unheard.
    requests: the names of the calls that got through, for those who count them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.down = False
        self.refs_lost = 0
        self.answers_lost = 0
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"failing:{self._store.url}"

    def generation(self) -> int | None:
        return None

    def survey(self) -> Iterable[AdapterSummary]:
        return self._line("survey").survey()

    def refs(self, adapter: AdapterName) -> Refs:
        if self.refs_lost:
            self.refs_lost -= 1
            raise RegistryUnavailable(f"{self.url} did not answer this once")
        return self._line("refs").refs(adapter)

    def publications(self, adapter: AdapterName) -> Mapping[str, Publication]:
        return self._line("publications").publications(adapter)

    def read(self, adapter: AdapterName, commit: str, path: str) -> bytes:
        return self._line("read").read(adapter, commit, path)

    def tree(self, adapter: AdapterName, commit: str) -> Mapping[str, int]:
        return self._line("tree").tree(adapter, commit)

    def fetch(self, adapter: AdapterName, commit: str, paths: Sequence[str], folder: Path) -> None:
        self._line("fetch").fetch(adapter, commit, paths, folder)

    def staging(self) -> AbstractContextManager[Path]:
        return self._store.staging()

    def add_version(
        self, adapter: AdapterName, files: Files, publication: Publication, *, newest: int, number: int
    ) -> str:
        store = self._line("add_version")
        return self._answer(store.add_version(adapter, files, publication, newest=newest, number=number))

    def move_alias(
        self,
        adapter: AdapterName,
        alias: str,
        marker: Marker,
        *,
        expected: str | None,
        recorded: bool = False,
    ) -> str:
        store = self._line("move_alias")
        return self._answer(store.move_alias(adapter, alias, marker, expected=expected, recorded=recorded))

    def move(self, adapter: AdapterName, alias: str, etag: str) -> Move:
        return self._line("move").move(adapter, alias, etag)

    def moves(self, adapter: AdapterName, alias: str) -> list[Move]:
        return self._line("moves").moves(adapter, alias)

    def retire(self, adapter: AdapterName, number: int) -> None:
        self._line("retire").retire(adapter, number)

    def sweep(self) -> int:
        return self._line("sweep").sweep()

    def changes(
        self, cursor: str | None, adapters: Collection[AdapterName] | None = None
    ) -> tuple[list[Change], str]:
        return self._line("changes").changes(cursor, adapters)

    def verify(self, head: str | None = None, progress: Progress = unseen) -> Proof:
        return self._line("verify").verify(head, progress)

    def close(self) -> None:
        self._store.close()

    def _line(self, request: str) -> Store:
        if self.down:
            raise RegistryUnavailable(f"{self.url} does not answer: the line is down")
        self.requests.append(request)
        return self._store

    def _answer(self, answer: str) -> str:
        if self.answers_lost:
            self.answers_lost -= 1
            raise RegistryUnavailable(f"{self.url} broke off before it answered")
        return answer
