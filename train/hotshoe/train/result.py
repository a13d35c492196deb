"""What a run hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hotshoe.adapter.manifest import Manifest
from hotshoe.train.audit import Note


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out row with what was expected and what base and adapter said."""

    where: str
    prompt: str
    expected: str
    base: str
    adapter: str


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run made.

    folder: a PEFT folder with `.hotshoe/manifest.json`, ready for `Registry.publish`.
    base, adapter: held-out figures by metric name, empty without held-out rows. main: the metric that
    decides. losses: training loss of each step. notes: what is suspicious about the rows. seconds: wall
    time of the whole run.
    """

    folder: Path
    manifest: Manifest
    base: Mapping[str, float]
    adapter: Mapping[str, float]
    main: str
    steps: int
    losses: tuple[float, ...]
    seconds: float
    notes: tuple[Note, ...] = ()
    samples: tuple[Sample, ...] = field(repr=False, default=())
