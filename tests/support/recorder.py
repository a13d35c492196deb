"""An engine and a source of versions that tests hold by the hand: they wait, fail and tell what happened."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.engine import EngineAdapter
from hotshoe.serve.fetching import Taken

BASE = Base("tiny", "", "0" * 64)


def version(name: str, number: int = 1) -> Version:
    """`acme/NAME@vNUMBER`, with digests of its own."""
    digest = f"{name}{number}".encode().hex()
    return Version(AdapterName("acme", name), number, digest[:40].zfill(40), digest.zfill(64))


class Recorder(EchoEngine):
    """Takes any adapter without looking at its files.

    held: what is added now, by adapter name and tag. most: the most that ever was. added, removed: ids in
    order. gate: adding waits until it is set. faults: adding `acme/NAME` raises this. clinging: removing
    any raises this.
    """

    def __init__(self, *, context_tokens: int = 2048, token_seconds: float = 0.0) -> None:
        super().__init__(BASE, context_tokens=context_tokens, token_seconds=token_seconds)
        self.held: dict[int, str] = {}
        self.most = 0
        self.added: list[int] = []
        self.removed: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: dict[str, BaseException] = {}
        self.clinging: BaseException | None = None

    async def add(self, adapter: EngineAdapter) -> None:
        self._ensure_alive()
        self.added.append(adapter.id)
        await self.gate.wait()
        name = adapter.name.partition("@")[0]
        if (fault := self.faults.get(name)) is not None:
            raise fault
        self.held[adapter.id] = name
        self._voices[adapter.id] = f"{adapter.id} {name}"
        self.most = max(self.most, len(self.held))

    async def remove(self, adapter: EngineAdapter) -> None:
        self._ensure_alive()
        self.removed.append(adapter.id)
        await asyncio.sleep(0)
        if self.clinging is not None:
            raise self.clinging
        del self.held[adapter.id]
        await super().remove(adapter)


class Shelves:
    """A source. taken: how often each version was taken. out: folders not given back. gate: as above.

    sizes: in bytes, 1 where none is given.
    """

    def __init__(self) -> None:
        self.taken: Counter[Version] = Counter()
        self.out: Counter[Version] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.faults: dict[Version, BaseException] = {}
        self.sizes: dict[Version, int] = {}
        self._counting = threading.Lock()  # Counted in the threads of a fetcher.

    def take(self, version: Version) -> Taken:
        with self._counting:
            self.taken[version] += 1
        assert self.gate.wait(10)
        if (fault := self.faults.get(version)) is not None:
            raise fault
        with self._counting:
            self.out[version] += 1
        return Taken(Path("/nowhere", str(version)), self.sizes.get(version, 1))

    def give_back(self, version: Version) -> None:
        with self._counting:
            self.out[version] -= 1
            assert self.out[version] >= 0

    def still_out(self) -> set[Version]:
        """Versions whose folder somebody has."""
        with self._counting:
            return {each for each, count in self.out.items() if count}


async def until_idle(times: int = 50) -> None:
    """Let every task run that can."""
    for _ in range(times):
        await asyncio.sleep(0.001)


def names(versions: Iterable[Version]) -> set[str]:
    """The versions as text."""
    return {str(each) for each in versions}
