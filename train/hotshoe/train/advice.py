"""What a run's figures suggest to do next, each with the key to turn; docs/training.md has a longer table."""

from __future__ import annotations

from collections.abc import Iterator

from hotshoe.train.result import TrainResult

FAR, ANOTHER_MODEL = 0.5, 1.0
"""Forgetting (nats a token) that is told; from the second on, general answers are not the base's any more."""

ENDED = 0.95
_LESS_IS_BETTER = ("loss", "perplexity", "forgetting", "general_loss")


def advice(result: TrainResult) -> Iterator[str]:
    """A sentence for each figure that a person would want to mend; none for a run that went well."""
    yield from _forgetting(result)
    yield from _no_better(result)
    ended = result.adapter.get("ended")
    if ended is not None and ended < ENDED:
        yield (
            f"ended {ended:.2f}: some answers ran into evaluation.max_new_tokens; raise it, or look for rows "
            "whose answers never end"
        )
    if result.checks and result.kept_step < result.steps:
        yield (
            f"the validation loss rose after step {result.kept_step} of {result.steps}, whose adapter was "
            "kept: more rows, or fewer steps"
        )


def _forgetting(result: TrainResult) -> Iterator[str]:
    moved = result.adapter.get("forgetting")
    if moved is None or moved < FAR:
        return
    how = "are another model's" if moved >= ANOTHER_MODEL else "moved far"
    rate = result.manifest.training["learning_rate"]
    lower = f"training.learning_rate = {rate / 3:.1g}, " if rate else ""
    yield (
        f"forgetting {moved:.2f}: answers to everyday questions {how}. If tenants ask this adapter anything "
        f"but its task, try {lower}lora.last_layers, or some general rows among the training rows"
    )


def _no_better(result: TrainResult) -> Iterator[str]:
    main = result.main
    if main not in result.adapter or main not in result.base or result.steps == 0:
        return
    gained = result.adapter[main] - result.base[main]
    if main in _LESS_IS_BETTER:
        gained = -gained
    if gained <= 0:
        yield (
            f"{main} is no better than the base's: more steps or rows, a higher training.learning_rate, or "
            "--sweep lr=...; see docs/training.md, When a run disappoints"
        )
