"""Plain transformers with peft: one batch, each row with its own adapter, as peft's guide does it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

from benchmarks.engines import prompts
from benchmarks.harness import Arm, Sample
from hotshoe.registry import BaseModel


class _Clock(LogitsProcessor):  # type: ignore[misc]  # transformers is not typed for mypy
    """Notes when each step's scores are there; changes none."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append(time.monotonic())
        return scores


def peft_arm(base: BaseModel, folders: Sequence[Path], *, answers: int, prompt: int, tokens: int) -> Arm:
    """Greedy decoding of `answers` rows over these adapters, on one thread like the engines beside it."""
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    names = [f"a{number}" for number in range(len(folders))]
    model = PeftModel.from_pretrained(model, str(folders[0]), adapter_name=names[0])
    for name, folder in zip(names[1:], folders[1:], strict=True):
        model.load_adapter(str(folder), adapter_name=name)
    model.eval()
    rows = [names[number % len(names)] for number in range(answers)]
    seeds = itertools.count()

    def generate() -> Sample:
        torch.set_num_threads(1)
        asked = torch.tensor(prompts(answers, prompt, model.config.vocab_size, seed=next(seeds)))
        clock = _Clock()
        with torch.inference_mode():
            model.generate(
                input_ids=asked,
                attention_mask=torch.ones_like(asked),
                adapter_names=rows,
                do_sample=False,
                min_new_tokens=tokens,
                max_new_tokens=tokens,
                logits_processor=LogitsProcessorList([clock]),
            )
        seconds = clock.steps[-1] - clock.steps[0]
        return {"tokens/s": answers * (len(clock.steps) - 1) / seconds}

    async def run() -> Sample:
        return await asyncio.to_thread(generate)

    return run
