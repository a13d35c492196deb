"""What recipes share around a transformers Trainer: arguments, progress, checks, checkpoints, finite loss."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hotshoe.adapter.errors import Refused
from hotshoe.train.checks import checking
from hotshoe.train.config import TrainConfig
from hotshoe.train.evaluate import mean_loss
from hotshoe.train.lesson import Learned, Lesson
from hotshoe.train.memory import knobs, memory_explained
from hotshoe.train.model import Model, trainable_parameters
from hotshoe.train.processes import gathered, processes
from hotshoe.train.progress import Progress
from hotshoe.train.tokens import split_answer

ENOUGH_TOKENS = 24
"""Learned tokens a step from which on the default rate is the full one (benchmarks.quality, task library)."""

_SHARES = {"pissa": 0.3, "olora": 0.1}
"""Of the default rate: what begins with the base's largest parts moves it far (docs/training.md)."""

_PATIENCE_SECONDS = 6 * 3600


def default_learning_rate(hidden_size: int) -> float:
    """A rate for LoRA from the base's width: 5e-5 x 10 x (2000 / hidden)^0.781.

    Source: Schulman et al., LoRA Without Regret (Thinking Machines, 2025), the exponent for Llama.
    """
    return 5e-4 * math.pow(2000 / hidden_size, 0.781)


def learning_rate(config: TrainConfig, hidden_size: int, learned: float) -> float:
    """The peak rate of a run: what was asked, or the default for the base's width, the recipe and the rows.

    learned: tokens that a row teaches on average.
    """
    # A preference is a nudge: at the rate of supervised tuning it breaks the language it nudges. And all
    # weights together move far at a rate that suits LoRA.
    share = 0.1 if config.recipe in ("dpo", "kto", "rlhf", "full") else 1.0
    if config.recipe == "sft":
        # Adam makes as large a step of a few tokens as of many, and one-word answers are few: at the full
        # rate they turn the base into another model before they are learned any better.
        rows = config.training.batch_rows * config.training.accumulate_batches * processes().count
        share = min(learned * rows / ENOUGH_TOKENS, 1.0)
    share *= _SHARES.get(config.lora.init, 1.0)
    return config.training.learning_rate or share * default_learning_rate(hidden_size)


def common_arguments(lesson: Lesson) -> dict[str, Any]:
    """Arguments that every trl config takes."""
    training, machine = lesson.config.training, lesson.machine
    saving = training.checkpoint_every_steps
    return {
        "output_dir": str(lesson.scratch),
        "max_steps": training.steps or -1,
        "num_train_epochs": training.epochs or 3.0,
        "per_device_train_batch_size": lesson.batch.rows,
        "gradient_accumulation_steps": lesson.batch.passes,
        "learning_rate": learning_rate(
            lesson.config, lesson.model.config.hidden_size, lesson.data.train.learned
        ),
        "warmup_steps": training.warmup_share,
        "lr_scheduler_type": training.schedule,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_gradient_norm,
        "seed": training.seed,
        # trl turns both on by default: on a CPU without bf16 that makes a step 14 times slower, and
        # checkpointing trades a third of the speed for memory that a small base's run rarely lacks.
        "bf16": machine.bf16,
        "gradient_checkpointing": training.recompute,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "use_cpu": machine.device == "cpu",
        "dataloader_pin_memory": machine.device != "cpu",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if saving else "no",
        "save_steps": saving or 500,
        "save_total_limit": 2,
        "report_to": list(training.trackers) or "none",
        "run_name": lesson.config.publish.adapter or lesson.config.recipe,
        "disable_tqdm": True,
        # The first process asks the base while the others wait for it.
        "ddp_timeout": _PATIENCE_SECONDS,
    }


def run_trainer(trainer: Any, lesson: Lesson, *, places: Sequence[str] | None = None) -> Learned:
    """Run a trl trainer to its end, from its last checkpoint if there is one, reporting every step.

    places: where each row of the trainer's data set comes from, by the number in its column `row`;
    default: the training rows as they are.
    Raises Refused at the first loss or gradient that is not finite, naming the rows of that step.
    """
    watch(trainer, lesson, places or [row.where for row in lesson.data.train.rows])
    check = None
    if lesson.config.training.check_every_steps is not None and lesson.data.validation:
        check = _checking(lesson)
        trainer.add_callback(check)
    if lesson.config.training.lora_plus_ratio is not None:
        trainer.optimizer = _lora_plus(trainer, lesson)
    if processes().first:
        sweep(lesson.scratch)
    last = _last_checkpoint(lesson.scratch)
    if last is not None:
        restore(trainer, lesson.model, Path(last))
    with memory_explained(knobs(lesson.config, lesson.batch, longest=_longest(lesson))):
        trainer.train(resume_from_checkpoint=last)
    weights = gathered(trainer, processes())
    best = check.best() if check else None
    return Learned(
        steps=int(trainer.state.global_step),
        losses=tuple(float(log["loss"]) for log in trainer.state.log_history if "loss" in log),
        learning_rate=float(trainer.args.learning_rate),
        trainable_parameters=trainable_parameters(trainer.model),
        dtype=lesson.machine.dtype,
        batch=lesson.batch,
        checks=tuple(check.checks) if check else (),
        kept_step=best.step if best else int(trainer.state.global_step),
        weights=weights,
    )


def watch(trainer: Any, lesson: Lesson, places: Sequence[str]) -> None:
    """Let a trl trainer report every step, and stop it at the first loss or gradient that is not finite.

    places: where each row comes from, by the number in the data set's column `row`. The trainer raises
    Refused, which names the rows of that step.
    """
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    # The loader reads one batch ahead.
    kept = lesson.batch.passes + 1
    remembering = _Remembering(trainer.data_collator, places, kept)
    trainer.data_collator = remembering
    trainer.add_callback(_watch(lesson.progress, remembering.rows))


def drop_reference(model: Model) -> None:
    """Take away the copy of the adapter that trl holds the policy to; it must not be packaged."""
    if "ref" in model.peft_config:
        model.delete_adapter("ref")


def _longest(lesson: Lesson) -> int:
    """Tokens of the longest sequence that a step may hold, answers yet to be drawn among them."""
    rows = lesson.data.train.sequences
    if lesson.config.recipe == "rlhf":
        asked = max(len(split_answer(row)[0]) for row in rows)
        return asked + lesson.config.evaluation.max_new_tokens
    return max(len(row.ids) for row in rows)


def _lora_plus(trainer: Any, lesson: Lesson) -> Any:
    """AdamW that learns B faster than A (Hayou et al., LoRA+, 2024)."""
    import torch
    from peft.optimizers import create_loraplus_optimizer

    return create_loraplus_optimizer(
        model=lesson.model,
        optimizer_cls=torch.optim.AdamW,
        lr=trainer.args.learning_rate,
        loraplus_lr_ratio=lesson.config.training.lora_plus_ratio,
        loraplus_weight_decay=trainer.args.weight_decay,
    )


class _Remembering:
    """A collator that knows the rows of the last batches, so that a bad loss can name them.

    Rows carry their number in the column `row`, which no model may see.
    """

    def __init__(
        self, collate: Callable[[list[dict[str, Any]]], Any], places: Sequence[str], kept: int
    ) -> None:
        self._collate = collate
        self._places = places
        self._batches: list[list[int]] = []
        self._kept = kept

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        numbers = [int(example["row"]) for example in examples if "row" in example]
        self._batches = [*self._batches, numbers][-self._kept :]
        return self._collate([{k: v for k, v in example.items() if k != "row"} for example in examples])

    def rows(self) -> Sequence[str]:
        return list(dict.fromkeys(self._places[number] for batch in self._batches for number in batch))


def _watch(progress: Progress, rows: Callable[[], Sequence[str]]) -> Any:
    """A transformers callback; made in here because its base class is slow to import."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is None:
                return
            norm = logs.get("grad_norm", 0.0)
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise Refused(
                    f"step {state.global_step}: the loss is {loss} and the gradient's length {norm}; nothing "
                    f"was packaged. Lower training.learning_rate, or look at these rows: {', '.join(rows())}"
                )
            progress.step(state.global_step, state.max_steps, float(loss))

    return Watch()


def _checking(lesson: Lesson) -> Any:
    training = lesson.config.training
    pad, rows = lesson.tokenizer.pad_token_id, lesson.data.validation

    def measure(model: Any) -> float:
        model.eval()
        return mean_loss(model, rows, pad=pad, batch_rows=lesson.config.evaluation.batch_rows)

    assert training.check_every_steps is not None
    return checking(training.check_every_steps, training.patience_checks, measure, lesson.scratch / "checks")


def goes_on(folder: Path) -> str:
    """What becomes of a run in `folder` that ends here and is started again; nothing is changed there."""
    try:
        last = _last_checkpoint(folder)
        after = f"goes on after step {last.rpartition('-')[2]}" if last else "begins anew"
    except OSError:
        # What ends the run may keep its folder from being read, too.
        after = "goes on after the last step that it kept"
    return f"Make room, or see to the place's rights, and start the same command again: it {after}"


def _last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; raise OSError where that cannot be known."""
    whole = (checkpoint for checkpoint in folder.glob("checkpoint-*") if _is_whole(checkpoint))
    newest = max(whole, key=lambda checkpoint: int(checkpoint.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None


def sweep(folder: Path) -> None:
    """Remove checkpoints that a kill cut short."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not _is_whole(checkpoint):
            shutil.rmtree(checkpoint, ignore_errors=True)


def _is_whole(checkpoint: Path) -> bool:
    """Whether all of it was written; raise OSError where it cannot be read just now, which says nothing.

    transformers writes trainer_state.json last (Trainer._save_checkpoint), so where it reads, all is there.
    """
    try:
        json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    return True


def restore(trainer: Any, model: Model, checkpoint: Path) -> None:
    """Do for a run that goes on what transformers does not."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    if "ref" in model.peft_config:
        # Beside a reference it reads that alone (Trainer._load_from_checkpoint); the policy would begin anew.
        set_peft_model_state_dict(model, load_file(checkpoint / "adapter_model.safetensors"))
    state = json.loads((checkpoint / "trainer_state.json").read_bytes())
    if state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]:
        # All steps were taken, or an early end was told; it would take one more before it asks.
        if not hasattr(trainer, "_run_epoch"):
            raise AttributeError("transformers' Trainer has no _run_epoch: a run that ended would train on")
        trainer._run_epoch = lambda **_: None
