"""A registry with what a test needs to publish to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.adapters import SUPPORT, make_adapter

from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry import BaseModel, Registry


@dataclass(frozen=True)
class Desk:
    """The registry, a base to publish for, and a folder where adapters are made, one a seed."""

    registry: Registry
    base: BaseModel
    folder: Path

    def adapter(self, seed: int) -> Path:
        folder = self.folder / f"adapter-{seed}"
        return folder if folder.is_dir() else make_adapter(folder, seed)

    def publish(self, seed: int, name: AdapterName = SUPPORT) -> Version:
        return self.registry.publish(
            self.adapter(seed), name, base=self.base, actor="ada", message=f"seed {seed}"
        )


@contextmanager
def meddling(desk: Desk, *, log: bool = False) -> Iterator[sqlite3.Connection]:
    """The index, open for somebody who should not be there; with `log`, the log's guards are gone too."""
    with closing(sqlite3.connect(desk.folder / "registry" / "index.sqlite")) as connection:
        if log:
            for guard in ("event_is_never_changed", "event_is_never_deleted"):
                connection.execute(f"DROP TRIGGER {guard}")
        with connection:
            yield connection
