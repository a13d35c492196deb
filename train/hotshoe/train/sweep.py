"""Many runs of one config with some keys changed, ranked by their held-out metric."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.train.config import TrainConfig
from hotshoe.train.result import TrainResult

SHORT = {"lr": "training.learning_rate", "r": "lora.rank", "alpha": "lora.alpha", "steps": "training.steps"}
"""Short names for the keys that are swept most."""

LOWER_IS_BETTER = ("loss", "perplexity", "forgetting", "general_loss")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep: the keys that were changed, with their values as they stand in the config."""

    changes: Mapping[str, str]
    result: TrainResult

    @property
    def score(self) -> float:
        """The deciding metric of the adapter, negated where less is better."""
        value = self.result.adapter[self.result.main]
        return -value if self.result.main in LOWER_IS_BETTER else value


def parse_grid(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read `lr=1e-4,2e-4` and the like; raise InvalidConfig for anything else."""
    grid: dict[str, tuple[str, ...]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        chosen = tuple(value.strip() for value in values.split(",") if value.strip())
        if not equals or not key.strip() or not chosen:
            raise InvalidConfig(f"--sweep {text!r}: write KEY=VALUE,VALUE, for example lr=1e-4,2e-4")
        grid[SHORT.get(key.strip(), key.strip())] = chosen
    return grid


def sweep(
    path: Path,
    grid: Mapping[str, Sequence[str]],
    run: Callable[[TrainConfig, Path], TrainResult],
    out: Path,
) -> list[Trial]:
    """Run every combination of the grid's values over the config at `path`, the best trial first.

    run: `(config, folder) -> result`, usually hotshoe.train.run.train with a progress; trials go to
    folders below `out`. All configs are read before the first run. Trials of one score keep their order.
    Raises InvalidConfig where there are no held-out rows to rank by.
    """
    trials = list(_combinations(grid))
    configs = [TrainConfig.read(path, changes) for changes in trials]
    if any(config.data.heldout is None for config in configs):
        raise InvalidConfig("a sweep ranks by held-out figures: name data.heldout")
    done = [
        Trial(changes, run(config, out / f"trial-{number}"))
        for number, (changes, config) in enumerate(zip(trials, configs, strict=True), start=1)
    ]
    return sorted(done, key=lambda trial: -trial.score)


def _combinations(grid: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))
