"""What was read of a store, remembered: refs for as long as they may be believed, the rest for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from hotshoe.adapter.manifest import MANIFEST_PATH, Manifest
from hotshoe.adapter.reference import AdapterName
from hotshoe.registry.store import Refs, Store
from hotshoe.registry.values import Move

_REMEMBERED = 100_000

Key = TypeVar("Key")
Value = TypeVar("Value")


class Knowledge:
    """A store's answers. Trees and moves never change; refs are read again when the store says that
    something changed, or, where it cannot say so cheaply, after `fresh_seconds`."""

    def __init__(self, store: Store, fresh_seconds: float) -> None:
        self._store = store
        self._fresh_seconds = fresh_seconds
        self._refs: dict[AdapterName, tuple[float, Refs]] = {}
        self._moves: dict[tuple[AdapterName, str, str], Move] = {}
        self._manifests: dict[tuple[AdapterName, str], Manifest] = {}
        self._lock = threading.Lock()

    def refs(self, adapter: AdapterName) -> Refs:
        """Refs that may be believed now, from memory if they are there."""
        # Asked before the refs are read: a change in between makes them old, never wrongly fresh.
        now = self._now()
        known = self._refs.get(adapter)
        if known is not None and self._believed(known[0], now):
            return known[1]
        refs = self._store.refs(adapter)
        self._refs[adapter] = (now, refs)
        return refs

    def move(self, adapter: AdapterName, alias: str, etag: str) -> Move:
        return self._recall(
            self._moves, (adapter, alias, etag), lambda: self._store.move(adapter, alias, etag)
        )

    def manifest(self, adapter: AdapterName, commit: str) -> Manifest:
        return self._recall(
            self._manifests,
            (adapter, commit),
            lambda: Manifest.parse(self._store.read(adapter, commit, MANIFEST_PATH)),
        )

    def forget(self, adapter: AdapterName) -> None:
        """Read this adapter's refs again when they are asked for next."""
        self._refs.pop(adapter, None)

    def _now(self) -> float:
        generation = self._store.generation()
        return time.monotonic() if generation is None else generation

    def _believed(self, then: float, now: float) -> bool:
        if self._store.generation() is None:
            return now - then < self._fresh_seconds
        return then == now

    def _recall(self, memory: dict[Key, Value], key: Key, read: Callable[[], Value]) -> Value:
        value = memory.get(key)
        if value is None:
            value = read()
            with self._lock:
                if len(memory) >= _REMEMBERED:
                    memory.pop(next(iter(memory)))
                memory[key] = value
        return value
