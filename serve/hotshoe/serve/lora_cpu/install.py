"""The places where vLLM is changed, and nothing else."""

from __future__ import annotations

from typing import Any

from vllm.platforms.cpu import CpuPlatform
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.worker import lora_model_runner_mixin

from hotshoe.serve.lora_cpu import OPERATORS
from hotshoe.serve.lora_cpu.layers import use_compiled_operators
from hotshoe.serve.lora_cpu.loading import SlicingWorkerManager
from hotshoe.serve.lora_cpu.runner import load_lora_model


def install() -> None:
    """Use our operators and our manager of adapters; see below for what else."""
    # vLLM compiles small functions of the sampler when a request first needs them (log probabilities do).
    # That takes a C++ compiler, and seconds in which nobody gets a token; without one the engine dies.
    CpuPlatform.simple_compile_backend = "eager"
    CpuPlatform.get_punica_wrapper = classmethod(_operators)
    lora_model_runner_mixin.LRUCacheWorkerLoRAManager = SlicingWorkerManager
    lora_model_runner_mixin.LoRAModelRunnerMixin.load_lora_model = load_lora_model
    use_compiled_operators()
    # A finished request may leave NaN or Inf in its KV blocks (a finite adapter can overflow on some
    # prompt), and attention multiplies the unused tail of a block by zero: 0 * NaN is NaN, in the
    # answer of whoever gets the block next. vLLM has the remedy and uses it for other models.
    KVCacheConfig.needs_kv_cache_zeroing = property(_always)


def _operators(_platform: type[CpuPlatform]) -> str:
    return f"hotshoe.serve.lora_cpu.punica.{OPERATORS}"


def _always(_config: Any) -> bool:
    return True
