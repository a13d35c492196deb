"""Running out of memory, on a GPU or a CPU, told with the knob to turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hotshoe.adapter.errors import Refused
from hotshoe.train.batch import Batch
from hotshoe.train.config import TrainConfig

_HELD = {"dpo": "pairs", "rlhf": "questions"}
"""What a row is, by recipe."""


@contextmanager
def memory_explained(advice: str) -> Iterator[None]:
    """Turn running out of memory inside the block into Refused: what took it, and what to do about it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        raise Refused(f"out of memory {advice}") from error


def knobs(config: TrainConfig, batch: Batch, *, longest: int) -> str:
    """What took the memory of a training step, and every key that makes it less, the cheapest first.

    batch: how the step's rows went through. longest: tokens of the longest sequence.
    """
    compares = config.recipe == "kto"
    turn = [] if config.training.recompute else ["set training.recompute = true"]
    if config.recipe == "rlhf":
        turn.append("lower evaluation.max_new_tokens, which is how long an answer may get, or reward.answers")
    if batch.rows > (2 if compares else 1):
        same = "it compares fewer rows then" if compares else "the same steps"
        turn.append(f"halve training.batch_rows and double training.accumulate_batches ({same})")
    if config.parent is None:
        turn.append("lower lora.last_layers")
    if config.quantize is None and config.recipe != "full" and not config.lora.moves_base:
        turn.append('set quantize = "nf4"')
    turn.append("leave out the longest rows")
    held = f"{batch.rows} {_HELD.get(config.recipe, 'rows')}"
    if config.recipe == "rlhf":
        held += f", {config.reward.answers} answers each,"
    return f"with {held} of up to {longest} tokens at once: {', then '.join(turn)}"


def _is_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On a CPU a plain RuntimeError: torch's allocator's, or oneDNN's where it finds no room for its code.
    return any(words in str(error) for words in ("can't allocate memory", "could not create a primitive"))
