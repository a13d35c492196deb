"""Many runs of one config with some keys changed, ranked by their held-out figures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotshoe.adapter.errors import InvalidConfig, Refused
from hotshoe.train.config import TrainConfig
from hotshoe.train.page import mark, page, picture, section, table, text
from hotshoe.train.plots import Curve, Panel, draw
from hotshoe.train.processes import processes
from hotshoe.train.result import TrainResult

SHORT = {"lr": "training.learning_rate", "r": "lora.rank", "alpha": "lora.alpha", "steps": "training.steps"}
"""Short names for the keys that are swept most."""

LOWER_IS_BETTER = ("loss", "perplexity", "forgetting", "general_loss")
PAGE, PLOT = "sweep.html", "sweep.png"

_FIGURES = ("ended", "loss", "forgetting")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep: the keys that were changed, with their values as they stand in the config, and
    what came of it, or why nothing did."""

    changes: Mapping[str, str]
    result: TrainResult | None
    failure: str = ""

    @property
    def name(self) -> str:
        """Its changes in short: `lr=1e-4 r=8`."""
        short = {key: word for word, key in SHORT.items()}
        return " ".join(f"{short.get(key, key)}={value}" for key, value in self.changes.items())

    @property
    def score(self) -> float:
        """The deciding figure of the adapter, negated where less is better; a failed trial is the last."""
        if self.result is None:
            return float("-inf")
        value = self.result.adapter.get(self.result.main, float("-inf"))
        return -value if self.result.main in LOWER_IS_BETTER else value


def parse_grid(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read `lr=1e-4,2e-4` and the like; raise InvalidConfig for anything else."""
    grid: dict[str, tuple[str, ...]] = {}
    for swept in texts:
        key, equals, values = swept.partition("=")
        chosen = tuple(dict.fromkeys(value.strip() for value in values.split(",") if value.strip()))
        if not equals or not key.strip() or not chosen:
            raise InvalidConfig(f"--sweep {swept!r}: write KEY=VALUE,VALUE, for example lr=1e-4,2e-4")
        name = SHORT.get(key.strip(), key.strip())
        if name in grid:
            raise InvalidConfig(f"--sweep names {name} twice: give all of its values at once")
        grid[name] = chosen
    return grid


def sweep(
    path: Path,
    grid: Mapping[str, Sequence[str]],
    run: Callable[[TrainConfig, Path], TrainResult],
    out: Path,
    fixed: Mapping[str, str] | None = None,
) -> list[Trial]:
    """Run every combination of the grid's values over the config at `path`, the best trial first.

    run: `(config, folder) -> result`, usually hotshoe.train.run.train with a progress; trials go to
    folders below `out`, with a page and a plot that compare them. fixed: other keys to be overridden in
    each. All configs are read before the first run. A run that is refused on the way (a rate that
    diverges, no memory left) is a failed trial, and the others go on; trials of one score keep their order.
    Raises InvalidConfig where there are no held-out rows to rank by, and Refused where every trial failed.
    """
    trials = list(_combinations(grid))
    if both := sorted(set(grid) & set(fixed or {})):
        raise InvalidConfig(f"{', '.join(both)} is swept and set: leave one of them out")
    configs = [TrainConfig.read(path, {**(fixed or {}), **changes}) for changes in trials]
    if any(config.data.heldout is None for config in configs):
        raise InvalidConfig("a sweep ranks by held-out figures: name data.heldout")
    if processes().count > 1:
        raise InvalidConfig("a sweep runs in one process: start it without torchrun or accelerate launch")
    done = [
        _run(run, changes, config, out / f"trial-{number}")
        for number, (changes, config) in enumerate(zip(trials, configs, strict=True), start=1)
    ]
    ranked = sorted(done, key=lambda trial: -trial.score)
    if ranked[0].result is None:
        failures = "\n".join(f"  {trial.name}: {trial.failure}" for trial in ranked)
        raise Refused(f"none of {len(ranked)} trials came to an end:\n{failures}")
    plot = _draw(ranked)
    out.mkdir(parents=True, exist_ok=True)
    (out / PLOT).write_bytes(plot)
    (out / PAGE).write_text(_render(ranked, plot), encoding="utf-8")
    return ranked


def compare(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of a table of trials."""
    main = next(trial.result.main for trial in trials if trial.result)
    shown = [main, *(name for name in _FIGURES if name != main)]
    return ["trial", *shown, "outcome"], [[trial.name, *_cells(trial, shown)] for trial in trials]


def _cells(trial: Trial, shown: Sequence[str]) -> list[str]:
    if trial.result is None:
        return [*("" for _ in shown), f"failed: {trial.failure}"]
    figures = trial.result.adapter
    passed = all(gate.passed for gate in trial.result.gates)
    outcome = f"{trial.result.seconds:.0f} s, {trial.result.folder}" + ("" if passed else ", GATE FAILED")
    return [*(f"{figures[name]:.4f}" if name in figures else "" for name in shown), outcome]


def _run(
    run: Callable[[TrainConfig, Path], TrainResult],
    changes: Mapping[str, str],
    config: TrainConfig,
    out: Path,
) -> Trial:
    try:
        return Trial(changes, run(config, out))
    except Refused as error:
        return Trial(changes, None, error.message)


def _draw(trials: Sequence[Trial]) -> bytes:
    curves = [
        Curve(trial.name, list(enumerate(trial.result.losses, start=1))) for trial in trials if trial.result
    ]
    return draw([Panel("training loss", "step", curves)])


def _render(trials: Sequence[Trial], plot: bytes) -> str:
    heads, rows = compare(trials)
    best = [mark(cell, good=True) for cell in rows[0]]
    return page(
        "sweep",
        [
            f"<h1>{text(f'Sweep of {len(trials)} trials, the best first')}</h1>",
            section("Trials", table(heads, [best, *rows[1:]])),
            section("Curves", picture(plot, "training loss by step of every trial")),
        ],
    )


def _combinations(grid: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))
