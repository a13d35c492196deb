"""Training steps beside plain trl: in turns with the same settings, and once with those that trl comes with.

What trl comes with is emulated on CPUs without bfloat16, where a step takes a minute: so few of them, once.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import models
from benchmarks.harness import Arm, Group, Sample, at_most, in_turns
from hotshoe.train.config import TrainConfig
from hotshoe.train.progress import Silent
from hotshoe.train.quiet import quiet
from hotshoe.train.run import train

ROUNDS = 2
STEPS, WARM = 8, 2
DEFAULT_STEPS, DEFAULT_WARM = 2, 0
BATCH_ROWS, RATE, SEED, FIRST_LAYER = 2, 1.3e-3, 1, 15

DEFAULTS = "trl's defaults"
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "support"
LIKE_OURS = {"bf16": False, "gradient_checkpointing": False}
"""What our config says of a CPU; trl's defaults are the opposite of both."""


@dataclass(slots=True)
class Clock(Silent):
    """Takes when each step ended, and its loss."""

    ends: list[tuple[float, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def step(self, done: int, total: int, loss: float | None) -> None:
        if loss is not None:
            self.ends.append((time.process_time(), time.perf_counter()))
            self.losses.append(loss)

    def sample(self, begun: float, warm: int) -> Sample:
        """Medians over the steps after the first one and `warm` more; `begun` is when the run began."""
        known = self.ends[warm:]
        cpu, wall = (
            statistics.median(after[kind] - before[kind] for before, after in itertools.pairwise(known))
            for kind in (0, 1)
        )
        return {"CPU s": cpu, "s": wall, "run s": time.perf_counter() - begun, "loss": self.losses[0]}


async def measure(rounds: int) -> Group:
    """All arms in this process, on one thread, the same rows in the same order."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with quiet():
        alike = {"hotshoe": _arm(_ours), "trl": _arm(partial(_plain, changes=LIKE_OURS))}
        series = await in_turns(alike, rounds, warm_up=False)
        few = {
            name: _arm(run, steps=DEFAULT_STEPS, warm=DEFAULT_WARM)
            for name, run in (("hotshoe", _ours), (DEFAULTS, partial(_plain, changes={})))
        }
        once = await in_turns(few, 1, warm_up=False)
    seen = {**{name: series.spread(name, "loss") for name in alike}, DEFAULTS: once.spread(DEFAULTS, "loss")}
    losses = "; ".join(f"{name} {spread}" for name, spread in seen.items())
    return Group(
        name="training",
        title="A training step",
        setting=f"SmolLM2-135M, LoRA of rank 16 on all linear layers of the last 15, {BATCH_ROWS} rows of "
        f"examples/support a step, {STEPS} steps, one thread. First losses: {losses}.",
        rows=[
            series.row(
                "a step, the same settings", "CPU s", "CPU s", arm="hotshoe", peer="trl", goal=at_most(1.03)
            ),
            series.row("the same by the clock", "s", "s", arm="hotshoe", peer="trl", goal=at_most(1.03)),
            once.row(
                "a step, trl's defaults",
                "CPU s",
                "CPU s",
                arm="hotshoe",
                peer=DEFAULTS,
                goal=at_most(1),
                note=f"the second of {DEFAULT_STEPS} steps, once",
            ),
            series.row(
                f"{STEPS} steps from start to saved adapter",
                "run s",
                "s",
                arm="hotshoe",
                peer="trl",
                note="ours checks rows, looks at the machine and packages, too",
            ),
        ],
    )


def _arm(run: Callable[[Path, Clock, int], None], *, steps: int = STEPS, warm: int = WARM) -> Arm:
    async def arm() -> Sample:
        clock, begun = Clock(), time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), clock, steps)
            return clock.sample(begun, warm)

    return arm


def _ours(folder: Path, clock: Clock, steps: int) -> None:
    raw = {
        "base": models.SMOLLM2,
        "data": {"train": "train.jsonl"},
        "lora": {"last_layers": 15},
        "training": {
            "steps": steps,
            "batch_rows": BATCH_ROWS,
            "learning_rate": RATE,
            "seed": SEED,
            "threads": 1,
        },
        "evaluation": {"forgetting": False},
    }
    train(TrainConfig.parse(raw, folder=EXAMPLE), out=folder / "out", progress=clock)


def _plain(folder: Path, clock: Clock, steps: int, *, changes: Mapping[str, Any]) -> None:
    """What a careful script does with trl and peft, nothing of Hotshoe in it but the base's folder."""
    import torch
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    base = models.smollm2().folder
    rows = load_dataset(
        "json", data_files=str(EXAMPLE / "train.jsonl"), split="train", cache_dir=str(folder / "rows")
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=SFTConfig(
            output_dir=str(folder / "trainer"),
            max_steps=steps,
            per_device_train_batch_size=BATCH_ROWS,
            learning_rate=RATE,
            warmup_steps=0.1,
            seed=SEED,
            use_cpu=True,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            **changes,
        ),
        train_dataset=rows.map(_conversation, remove_columns=rows.column_names),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=16,
            lora_alpha=32,
            target_modules=list(models.TARGETS),
            layers_to_transform=list(range(FIRST_LAYER, 30)),
        ),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_ticks(clock))
    trainer.train()
    trainer.save_model(str(folder / "out"))


def _conversation(row: dict[str, Any]) -> dict[str, Any]:
    asked = "\n\n".join(row[key] for key in ("instruction", "input") if row.get(key))
    return {
        "prompt": [{"role": "user", "content": asked}],
        "completion": [{"role": "assistant", "content": row["output"]}],
    }


def _ticks(clock: Clock) -> Any:
    from transformers import TrainerCallback

    class Ticks(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                clock.step(state.global_step, state.max_steps, float(logs["loss"]))

    return Ticks()
