"""Looking up from a run: the loss on validation rows every few steps, the best adapter kept, an early end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hotshoe.train.model import Model


@dataclass(frozen=True, slots=True)
class Check:
    """The validation loss after a step (nats a token)."""

    step: int
    loss: float


def checking(every_steps: int, patience: int | None, measure: Callable[[Model], float], folder: Path) -> Any:
    """A transformers callback that checks a run; its `checks` tell what it saw.

    measure: the loss of the model as it is. folder: where adapters that were the best so far are kept,
    and what was seen, so that a run that goes on from a checkpoint knows them. At the end the best one
    is put back, so that what is packaged is never a later, worse one.
    Made in here: its base class is slow to import.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file, save_file
    from transformers import TrainerCallback

    class Checking(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.checks: list[Check] = []

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder.mkdir(exist_ok=True)
            self.checks = [check for check in _read(folder) if check.step <= state.global_step]

        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step % every_steps and state.global_step != state.max_steps:
                return
            check = Check(state.global_step, measure(model))
            model.train()
            self.checks.append(check)
            if self.best() == check:
                save_file(get_peft_model_state_dict(model), _weights(folder, check))
                _sweep(folder, self.checks)
            elif patience is not None and _since_best(self.checks) >= patience:
                control.should_training_stop = True
            _write(folder, self.checks)

        def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            best = self.best()
            if best is not None and best.step != state.global_step:
                set_peft_model_state_dict(model, load_file(_weights(folder, best)))

        def best(self) -> Check | None:
            return _best(self.checks)

    return Checking()


def _best(checks: list[Check]) -> Check | None:
    finite = [check for check in checks if math.isfinite(check.loss)]
    return min(finite, key=lambda check: check.loss, default=None)


def _sweep(folder: Path, checks: list[Check]) -> None:
    """Remove adapters that are the best neither of now nor of a checkpoint from which the run may go on."""
    steps = [int(path.name.rpartition("-")[2]) for path in folder.parent.glob("checkpoint-*")]
    needed = [_best([check for check in checks if check.step <= step]) for step in (*steps, checks[-1].step)]
    kept = {_weights(folder, check) for check in needed if check is not None}
    for path in set(folder.glob("best-*.safetensors")) - kept:
        path.unlink()


def _since_best(checks: list[Check]) -> int:
    """How many checks came after the best one."""
    best = min(range(len(checks)), key=lambda index: checks[index].loss)
    return len(checks) - 1 - best


def _weights(folder: Path, check: Check) -> Path:
    return folder / f"best-{check.step}.safetensors"


def _read(folder: Path) -> list[Check]:
    try:
        return [Check(**check) for check in json.loads((folder / "checks.json").read_bytes())]
    except (OSError, ValueError):
        return []


def _write(folder: Path, checks: list[Check]) -> None:
    partial = folder / "checks.partial"
    partial.write_text(json.dumps([asdict(check) for check in checks]))
    partial.replace(folder / "checks.json")
