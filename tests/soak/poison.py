"""Chaos in what is published: adapters that no server must serve, some of them past the inspection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path

from soak.judge import Fault, What
from soak.record import Record
from soak.world import ALIAS, OPERATOR, OTHER_BASE, TENANTS, Bad, World, key_of
from support import tiny
from support.broken import DEEP, PLAIN
from support.smuggled import smuggle

from hotshoe.adapter.errors import InvalidRequest, Unavailable, Unservable
from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.client.admin import AdminClient
from hotshoe.registry import BaseModel, fetch_base
from hotshoe.registry.inspect.folder import MAX_BYTES

FAULTS = {name: fault for name, fault in (PLAIN | DEEP).items() if name != "no folder"}

STUCK_SECONDS = 120.0
FIRST_SEED = 1_000_000
"""Of adapters that are broken later: no voice has one of these."""

LOOK_SECONDS = 0.1


class Poison:
    """Publishes what is bad. shelf: the adapters where it goes, one of each tenant."""

    def __init__(self, address: str, world: World, record: Record) -> None:
        self._address = address
        self._world = world
        self._record = record
        self._other_base = fetch_base(str(world.folder / OTHER_BASE))
        self._seeds = count(FIRST_SEED)

    async def one(self, chance: random.Random) -> None:
        """One bad adapter by chance."""
        what = chance.choice((self._refused, self._smuggled, self._unfit, self._tampered, self._promoted))
        await what(chance)

    async def _refused(self, chance: random.Random) -> None:
        with self._record.doing("publish a broken adapter"):
            folder, fault = await asyncio.to_thread(self._broken, chance)
            name = AdapterName(chance.choice(TENANTS), "shelved")
            try:
                version = await asyncio.to_thread(
                    self._world.registry.publish, folder, name, base=self._world.base
                )
            except (Unservable, InvalidRequest):
                return
            self._record.fault(Fault(What.CHAOS, f"an adapter with {fault} was published as {version}"))

    async def _smuggled(self, chance: random.Random) -> None:
        with self._record.doing("publish a broken adapter past inspection"):
            folder, _ = await asyncio.to_thread(self._broken, chance)
            name = AdapterName(chance.choice(TENANTS), "shelved")
            self._shelve(await asyncio.to_thread(self._smuggle, folder, name), _told_of(folder))

    async def _unfit(self, chance: random.Random) -> None:
        with self._record.doing("publish one for other slots or another base"):
            name = AdapterName(chance.choice(TENANTS), "shelved")
            if chance.random() < 0.5:
                version = await asyncio.to_thread(self._publish, name, self._world.base, 64)
                self._shelve(version, "UNSERVABLE")
            else:
                version = await asyncio.to_thread(self._publish, name, self._other_base, 8)
                self._shelve(version, "BASE_MISMATCH")

    async def _tampered(self, chance: random.Random) -> None:
        with self._record.doing("change the bytes of a version in the store"):
            name = AdapterName(chance.choice(TENANTS), "shelved")
            version = await asyncio.to_thread(self._publish, name, self._world.base, 8)
            await asyncio.to_thread(self._change_bytes, version)
            self._shelve(version, "TAMPERED")

    async def _promoted(self, chance: random.Random) -> None:
        """The alias stays where it is and says why; rolled back, it is well again."""
        with self._record.doing("promote a broken version, and roll back"):
            line = chance.choice(list(self._world.lines.values()))
            folder, _ = await asyncio.to_thread(self._broken, chance)
            version = await asyncio.to_thread(self._smuggle, folder, line.name)
            self._shelve(version, _told_of(folder))
            registry = self._world.registry
            await asyncio.to_thread(registry.promote, line.name, ALIAS, version.number, force=True)
            alias = f"{line.name}@{ALIAS}"
            await self._until(lambda admin: alias in [each.alias for each in admin.status().stuck])
            await asyncio.to_thread(registry.rollback, line.name, ALIAS, reason="it cannot be loaded")
            await self._until(lambda admin: alias not in [each.alias for each in admin.status().stuck])

    async def _until(self, holds: Callable[[AdminClient], bool]) -> None:
        def ask() -> bool:
            with AdminClient(self._address, api_key=key_of(OPERATOR)) as admin:
                try:
                    return holds(admin)
                except Unavailable:
                    return False

        async with asyncio.timeout(STUCK_SECONDS):
            while not await asyncio.to_thread(ask):
                await asyncio.sleep(LOOK_SECONDS)

    def _shelve(self, version: Version, reason: str) -> None:
        self._world.bad.append(Bad(version, frozenset({reason})))

    def _made(self, rank: int = 8) -> Path:
        seed = next(self._seeds)
        return tiny.build_adapter(self._world.folder / f"bad{seed}", seed=seed, rank=rank)

    def _broken(self, chance: random.Random) -> tuple[Path, str]:
        fault = chance.choice(list(FAULTS))
        folder = self._made()
        FAULTS[fault](folder)
        return folder, fault

    def _publish(self, name: AdapterName, base: BaseModel, rank: int) -> Version:
        return self._world.registry.publish(self._made(rank), name, base=base, actor="soak")

    def _smuggle(self, folder: Path, name: AdapterName) -> Version:
        targets = tuple(sorted(tiny.ALL_LINEAR))
        return smuggle(self._world.registry, folder, name, self._world.base.base, targets)

    def _change_bytes(self, version: Version) -> None:
        weights = next(
            entry for entry in self._world.registry.manifest(version).files if entry.path.endswith("tensors")
        )
        blob = self._world.registry_folder / "blobs" / weights.sha256
        blob.chmod(0o644)
        with blob.open("r+b") as file:
            file.seek(-1, 2)
            last = file.read(1)
            file.seek(-1, 2)
            file.write(bytes([last[0] ^ 1]))


def _told_of(folder: Path) -> str:
    """Why nobody gets what was smuggled in from here: a file that no version is made of is seen first."""
    foreign = {path.name for path in folder.iterdir()} - MAX_BYTES.keys()
    return "TAMPERED" if foreign else "UNSERVABLE"
