"""`python -m benchmarks.quality [TASK ...] [--method M] [--seed N]`: train, measure, write docs/quality.md.

`preference` is a task, too: the chain SFT, DPO, RLHF. `--missing` takes only what is not on record yet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.quality import record
from benchmarks.quality.cells import Cell
from benchmarks.quality.methods import METHODS
from benchmarks.quality.preference import TASK
from benchmarks.quality.runs import PREFERENCE, measure_all
from benchmarks.quality.tasks import TASKS

SEEDS = (1, 2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"any of {', '.join(TASKS)}, {PREFERENCE}")
    parser.add_argument("--method", action="append", choices=METHODS)
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--missing", action="store_true", help="only what is not on record")
    parser.add_argument("--at-once", type=int, default=2, help="how many runs, one core each")
    parser.add_argument("--keep", type=Path, help="a folder for the chain's stages, to go on from there")
    options = parser.parse_args()
    if unknown := set(options.tasks) - {*TASKS, PREFERENCE}:
        parser.error(f"no such task: {', '.join(sorted(unknown))}")
    tasks = options.tasks or [*TASKS, PREFERENCE]
    cells = list(_cells(tasks, options.method or list(METHODS), options.seed or SEEDS))
    if options.missing:
        cells = [cell for cell in cells if record.key(cell) not in record.known()]
    return 1 if measure_all(cells, at_once=options.at_once, keep=options.keep) else 0


def _cells(tasks: Sequence[str], methods: Sequence[str], seeds: Sequence[int]) -> Iterator[Cell]:
    for task in tasks:
        chain = task == PREFERENCE
        for seed in seeds:
            for method in [PREFERENCE] if chain else methods:
                yield Cell(TASK.name if chain else task, method, seed)


if __name__ == "__main__":
    sys.exit(main())
