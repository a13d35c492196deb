"""Kills a process at every step of a change to a local registry, and says what each death left behind.

    python crashing.py FOLDER {first,next,promote,collect,mirror} STRIDE

A step is a call that touches the disk, or one to SQLite. For each one (or each few) a child is forked that
does the change and is killed (SIGKILL) right before that call. Prints one JSON line for each death, and one
for the child that came through.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from support.adapters import SUPPORT, make_adapter, make_base

from hotshoe.adapter.errors import NotFound
from hotshoe.registry import Registry, open_registry
from hotshoe.registry.mirror import mirror
from hotshoe.registry.retention import Retention, collect

STEPS = frozenset(
    {
        "execute",
        "executescript",
        "executemany",
        "open",
        "write",
        "close",
        "fsync",
        "rename",
        "replace",
        "chmod",
        "mkdir",
        "unlink",
        "rmdir",
        "flock",
    }
)

Change = Callable[[Registry], object]


def main() -> None:
    folder, what = Path(sys.argv[1]), sys.argv[2]
    base = make_base(folder / "base")
    adapters = [make_adapter(folder / f"adapter-{seed}", seed) for seed in (1, 2)]
    start = folder / "start"
    with open_at(start) as registry:
        if what not in ("first", "mirror"):
            registry.publish(adapters[0], SUPPORT, base=base)
        if what == "collect":
            registry.publish(adapters[1], SUPPORT, base=base)
    with open_at(folder / "origin") as origin:
        for number, adapter in enumerate(adapters if what == "mirror" else (), 1):
            origin.publish(adapter, SUPPORT, base=base)
            origin.promote(SUPPORT, "prod", number)
    changes: dict[str, Change] = {
        "first": lambda registry: registry.publish(adapters[0], SUPPORT, base=base),
        "next": lambda registry: registry.publish(adapters[1], SUPPORT, base=base),
        "promote": lambda registry: registry.promote(SUPPORT, "prod", 1, promotion_id="the one"),
        "collect": lambda registry: collect(registry, Retention(last=1, days=0), dry_run=False),
        "mirror": lambda registry: mirrored(folder / "origin", registry),
    }
    for step in itertools.count(1, int(sys.argv[3])):
        place = folder / f"place-{step}"
        shutil.copytree(start, place)
        killed = die_at(step, place, changes[what])
        found = look(place)
        with open_at(place) as registry:
            changes[what](registry)
            registry.store.sweep()
        print(json.dumps({"killed": killed, "found": found, "retried": look(place)}), flush=True)
        shutil.rmtree(place)
        if not killed:
            return


def open_at(place: Path) -> Registry:
    return open_registry(place, cache=place / "cache")


def mirrored(origin: Path, registry: Registry) -> None:
    """Copy what is in `origin`; no process holds it open across a fork."""
    with open_at(origin) as source:
        mirror(source, registry)


def die_at(step: int, place: Path, change: Change) -> bool:
    """Do the change in a child that dies at its given step; False if it came through."""
    child = os.fork()
    if child == 0:
        count = 0

        def watch(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal count
            if event == "c_call" and argument.__name__ in STEPS:
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        registry = open_at(place)
        sys.setprofile(watch)
        try:
            change(registry)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def look(place: Path) -> dict[str, Any]:
    """What a reader finds: every version that is listed is fetched and verified, and the log proven."""
    with open_at(place) as registry:
        try:
            state = registry.show(SUPPORT)
        except NotFound:
            return {"versions": [], "prod": None, "log": registry.verify().entries}
        for found in state.versions:
            registry.fetch(found.version)
        prod = state.aliases.get("prod")
        return {
            "versions": [found.version.number for found in state.versions],
            "prod": prod.version.number if prod else None,
            "log": registry.verify().entries,
        }


if __name__ == "__main__":
    main()
