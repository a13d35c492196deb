"""Answers with a seed whose prompt takes more than one step.

A step samples for each of its rows, also for one whose prompt goes on in the next step. What was drawn for
such a row has to be taken back, or an answer would depend on who else was in its steps. vLLM 0.32 sets back
the generator's offset; a CPU's generator has none, and asking for it ends the engine for everybody.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def take_back_draws(runner: Any) -> None:
    """Have a GPUModelRunner, which the CPU's is too, set generators back by their whole state."""
    sample, note_down = runner._sample, runner._bookkeeping_sync

    def _sample(*arguments: Any, **named: Any) -> Any:
        batch = runner.input_batch
        going_on = np.nonzero(runner.discard_request_mask.np[: batch.num_reqs])[0].tolist()
        generators = [batch.generators[row] for row in going_on if row in batch.generators]
        states = [each.get_state() for each in generators]
        try:
            return sample(*arguments, **named)
        finally:
            for each, state in zip(generators, states, strict=True):
                each.set_state(state)

    def _bookkeeping_sync(*arguments: Any, **named: Any) -> Any:
        batch = runner.input_batch
        generators, batch.generators = batch.generators, {}  # It would set them back in its own way.
        try:
            return note_down(*arguments, **named)
        finally:
            batch.generators = generators

    runner._sample, runner._bookkeeping_sync = _sample, _bookkeeping_sync
