"""What all recipes share around a transformers Trainer: arguments, progress, and the stop at a bad loss."""

from __future__ import annotations

import math
from typing import Any

from hotshoe.adapter.errors import Refused
from hotshoe.train.config import TrainingConfig
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.model import trainable_parameters
from hotshoe.train.progress import Progress


def default_learning_rate(hidden_size: int) -> float:
    """A rate for LoRA from the base's width: 5e-5 x 10 x (2000 / hidden)^0.781.

    Source: Schulman et al., LoRA Without Regret (Thinking Machines, 2025), the exponent for Llama.
    """
    return 5e-4 * math.pow(2000 / hidden_size, 0.781)


def learning_rate(training: TrainingConfig, hidden_size: int) -> float:
    """The peak rate of a run: what was asked, or the default for the base's width."""
    return training.learning_rate or default_learning_rate(hidden_size)


def common_arguments(lesson: Lesson) -> dict[str, Any]:
    """Arguments that every trl config takes."""
    training, machine = lesson.config.training, lesson.machine
    return {
        "output_dir": str(lesson.scratch),
        "max_steps": training.steps or -1,
        "num_train_epochs": training.epochs or 3.0,
        "per_device_train_batch_size": training.batch_rows,
        "gradient_accumulation_steps": training.accumulate_batches,
        "learning_rate": learning_rate(training, lesson.model.config.hidden_size),
        "warmup_steps": training.warmup_share,
        "lr_scheduler_type": training.schedule,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_gradient_norm,
        "seed": training.seed,
        # trl turns both on by default: on a CPU without bf16 that makes a step 14 times slower, and
        # checkpointing trades a third of the speed for memory that an adapter's run rarely lacks.
        "bf16": machine.bf16,
        "gradient_checkpointing": False,
        "use_cpu": machine.device == "cpu",
        "dataloader_pin_memory": machine.device != "cpu",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def run_trainer(trainer: Any, lesson: Lesson) -> Learned:
    """Run a trl trainer to its end, reporting every step; raise Refused at the first non-finite loss."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    watch = _watch(lesson.progress)
    trainer.add_callback(watch)
    trainer.train()
    return Learned(
        steps=int(trainer.state.global_step),
        losses=tuple(watch.losses),
        learning_rate=float(trainer.args.learning_rate),
        trainable_parameters=trainable_parameters(trainer.model),
        dtype=lesson.machine.dtype,
    )


def _watch(progress: Progress) -> Any:
    """A transformers callback; made in here because its base class is slow to import."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            norm = logs.get("grad_norm", 0.0)
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise Refused(
                    f"step {state.global_step}: the loss is {loss} and the gradient's length {norm}; "
                    "nothing was packaged. Lower training.learning_rate, or look for broken rows"
                )
            self.losses.append(float(loss))
            progress.step(state.global_step, state.max_steps, float(loss))

    return Watch()
