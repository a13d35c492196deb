"""What a run hands back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hotshoe.adapter.manifest import Manifest
from hotshoe.registry.inspect import REPORT_FILE
from hotshoe.train.audit import Note
from hotshoe.train.checks import Check
from hotshoe.train.gates import GateResult


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out row with what was expected, and what each said: the names are those of the figures."""

    where: str
    prompt: str
    expected: str
    answers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run made.

    folder: a PEFT folder with `.hotshoe/manifest.json`, ready for `Registry.publish`.
    figures: held-out figures of `base` and `adapter`, perhaps of `parent` and `full` (the change that the
    adapter was extracted from), by name. main: the figure that decides. losses: training loss of each
    step; rewards: the mean reward of each, where there is one. checks: validation losses on the way;
    kept_step: the step whose adapter was kept. gates: what must hold for a promotion, judged. notes: what
    is suspicious about the rows. seconds: wall time of the whole run.
    """

    folder: Path
    manifest: Manifest
    figures: Mapping[str, Mapping[str, float]]
    main: str
    steps: int
    losses: tuple[float, ...]
    checks: tuple[Check, ...]
    kept_step: int
    seconds: float
    rewards: tuple[float, ...] = ()
    gates: tuple[GateResult, ...] = ()
    notes: tuple[Note, ...] = ()
    samples: tuple[Sample, ...] = field(repr=False, default=())

    @property
    def report(self) -> Path:
        """The run for people, as one HTML page."""
        return self.folder / REPORT_FILE

    @property
    def base(self) -> Mapping[str, float]:
        """The base's held-out figures; empty without held-out rows."""
        return self.figures.get("base", {})

    @property
    def adapter(self) -> Mapping[str, float]:
        """The adapter's held-out figures; without held-out rows only what it forgot."""
        return self.figures.get("adapter", {})
