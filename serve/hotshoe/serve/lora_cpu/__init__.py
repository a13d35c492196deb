"""vLLM's LoRA on CPU, made right and fast; plugged in by the entry point `vllm.general_plugins`.

vLLM 0.32 marks a row without an adapter by the slot -1, and its torch operators index their weights
with it: such a row is answered with the *last* slot's adapter (vllm#48421, #49656). They also copy the
adapter's weights once per token. This package replaces those operators, has the base computed by compiled
ones where vLLM has them, and adds a guard against what vLLM loads in silence and against KV blocks that
still hold another request's NaN.

vLLM calls `register` in each of its processes. On other platforms it does nothing. HOTSHOE_VLLM=stock leaves
vLLM as it is, here and in its schedulers (vllm_start.py), for comparing the two: without structures, without
what ends an answer that overflows. No server of tenants runs so.
"""

from __future__ import annotations

import os

SWITCH = "HOTSHOE_VLLM"
STOCK = "stock"
OPERATORS = "SegmentedPunica"


def is_stock() -> bool:
    """Whether vLLM is to be left as it is."""
    return os.environ.get(SWITCH) == STOCK


def register() -> None:
    """Install the replacement into this process's vLLM; calling it again changes nothing."""
    if is_stock():
        return
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from hotshoe.serve.lora_cpu.install import install

    install()
