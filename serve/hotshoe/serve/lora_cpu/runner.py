"""What is changed in vLLM's model runner, in each as it loads: nobody may import its module before."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

from hotshoe.serve.lora_cpu.seeds import take_back_draws

_load_lora_model: Callable[..., Any] = LoRAModelRunnerMixin.load_lora_model


def load_lora_model(runner: Any, *arguments: Any, **named: Any) -> Any:
    """As the mixin's own, which every runner calls while it loads."""
    take_back_draws(runner)
    runner._get_nans_in_logits = functools.partial(_nans_in_logits, runner)
    return _load_lora_model(runner, *arguments, **named)


def _nans_in_logits(runner: Any, logits: torch.Tensor | None) -> dict[str, int]:
    """1 for each request with a NaN among its logits; none for the others.

    vLLM's own counts them, which takes thirty times as long: milliseconds of a step. A NaN makes a sum one.
    """
    rows = [] if logits is None else logits.sum(-1).isnan().nonzero().flatten().tolist()
    if not rows:
        return {}
    requests = {row: request for request, row in runner.input_batch.req_id_to_index.items()}
    return {requests[row]: 1 for row in rows if row in requests}
