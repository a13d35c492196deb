"""What the soak serves: tenants, adapters, their versions, and what is true of them at which time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from soak.oracle import BASE, Oracle
from support import tiny

from hotshoe.adapter.reference import AdapterName
from hotshoe.adapter.version import Version
from hotshoe.registry import BaseModel, Registry, Target
from hotshoe.registry.aliases import choose
from hotshoe.serve.tenants import key_hash
from hotshoe.wire.values import Resolved

ALIAS = "prod"
OTHER_BASE = "other-base"
LINES = tuple(
    AdapterName(org, name)
    for org, name in (
        ("acme", "support"),
        ("acme", "sales"),
        ("globex", "legal"),
        ("globex", "care"),
        ("initech", "code"),
    )
)
TENANTS = ("acme", "globex", "initech")
NARROW = "initech"
"""The tenant with limits that it runs into."""

PROBE, OPERATOR = "probe", "ops"
"""Tenants of the soak itself: one sees whether what was done took effect, one administers."""


def key_of(tenant: str) -> str:
    return f"hs_{tenant}"


@dataclass(slots=True)
class Pointing:
    """What an alias pointed to, and when (monotonic) a request may have been answered by that."""

    targets: tuple[Target, ...]
    begins: float
    ends: float | None = None


@dataclass(slots=True)
class Line:
    """An adapter that is served. moving: held while the registry is told of a move."""

    name: AdapterName
    versions: dict[str, Version] = field(default_factory=dict)
    pointings: list[Pointing] = field(default_factory=list)
    moving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def now(self) -> Pointing:
        """Where the alias is to point, as far as it could be told."""
        return self.pointings[-1]

    def points_to(self, targets: tuple[Target, ...], since: float) -> None:
        """A move that began at `since` was made."""
        if targets != self.now.targets:
            self.pointings.append(Pointing(targets, since))

    def settled(self) -> None:
        """A request was answered by the newest move: no later one may be answered by any before."""
        for before in self.pointings[:-1]:
            before.ends = before.ends or time.monotonic()

    def may_answer(self, session: str, began: float, ended: float) -> set[str]:
        """The tags of the versions that may answer a request by the alias that ran at that time."""
        valid = [
            each.targets
            for each in self.pointings
            if each.begins <= ended and (each.ends is None or each.ends >= began)
        ]
        if session:
            return {choose(targets, session).version.tag for targets in valid}
        return {target.version.tag for targets in valid for target in targets}


@dataclass(frozen=True, slots=True)
class Bad:
    """A version that is there and cannot be served. reasons: what whoever asks for it may be told."""

    version: Version
    reasons: frozenset[str]


@dataclass(slots=True)
class World:
    """Everything the soak knows. voices: of versions, by manifest digest. bad: what cannot be served."""

    folder: Path
    base: BaseModel
    registry: Registry
    oracle: Oracle
    fresh: Iterator[tuple[str, Path]]
    lines: dict[AdapterName, Line] = field(default_factory=dict)
    voices: dict[str, str] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)

    def publish(self, name: AdapterName) -> Version | None:
        """Make the next voice a version; None if there is none left. Blocking."""
        voice, folder = next(self.fresh, (None, None))
        if voice is None or folder is None:
            return None
        version = self.registry.publish(folder, name, base=self.base, actor="soak")
        self.voices[version.manifest_sha256] = voice
        self.lines[name].versions[version.tag] = version
        return version

    def voice_of(self, resolved: Resolved) -> str | None:
        """Whose answer it must be; None where there is no such version, or not with this identity."""
        if not resolved.adapter:
            return BASE
        line = self.lines.get(AdapterName.parse(resolved.adapter))
        version = line.versions.get(resolved.version) if line else None
        if version is None or (version.commit, version.manifest_sha256) != (
            resolved.commit,
            resolved.manifest_sha256,
        ):
            return None
        return self.voices[version.manifest_sha256]

    def lines_of(self, tenant: str) -> list[Line]:
        """The adapters that a tenant may use."""
        return [line for name, line in self.lines.items() if name.org == tenant]

    @property
    def registry_folder(self) -> Path:
        return self.folder / "registry"

    @property
    def ledger(self) -> Path:
        return self.folder / "usage.sqlite"

    @property
    def tenants_file(self) -> Path:
        return self.folder / "tenants.toml"

    def write_tenants(
        self, *, without: str = "", weights: Mapping[str, float] | None = None, text: str = ""
    ) -> None:
        """Put the tenants file in place in one step: as it should be, or as asked."""
        new = self.tenants_file.with_suffix(".new")
        new.write_text(text or tenants_toml([each for each in TENANTS if each != without], weights or {}))
        new.replace(self.tenants_file)


def tenants_toml(tenants: Sequence[str], weights: Mapping[str, float]) -> str:
    """The file for these tenants and those of the soak itself."""
    blocks = [
        f'[tenants.{PROBE}]\nkeys = ["{key_hash(key_of(PROBE))}"]\nadapters = ["*/*"]\n',
        f'[tenants.{OPERATOR}]\nkeys = ["{key_hash(key_of(OPERATOR))}"]\nadapters = ["*/*"]\nadmin = true\n',
    ]
    for name in tenants:
        narrow = "requests_per_second = 4\nconcurrent = 3\n" if name == NARROW else ""
        blocks.append(
            f'[tenants.{name}]\nkeys = ["{key_hash(key_of(name))}"]\nadapters = ["{name}/*"]\n'
            f"weight = {weights.get(name, 1.0)}\n[tenants.{name}.limits]\n{narrow}"
        )
    return "\n".join(blocks)


def make_voices(folder: Path, count: int) -> dict[str, Path]:
    """That many adapters for the tiny base, each different."""
    return {f"voice{seed}": tiny.build_adapter(folder / f"voice{seed}", seed=seed) for seed in range(count)}


def furnish(world: World) -> None:
    """Publish two versions of every line and promote the first. Blocking."""
    for name in LINES:
        line = world.lines[name] = Line(name)
        first, _ = world.publish(name), world.publish(name)
        if first is None:
            raise RuntimeError("there are fewer voices than first versions: make more")
        move = world.registry.promote(name, ALIAS, first.number, actor="soak", reason="first")
        line.pointings.append(Pointing(move.to, time.monotonic()))
    world.write_tenants()
