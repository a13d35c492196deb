"""What the plugin changes in vLLM, seen from a process that has nothing but vLLM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hotshoe.serve import lora_cpu

COUNT = """
from hotshoe.serve import lora_cpu
lora_cpu.register()
import torch
from vllm.v1.sample.ops.logprobs import batched_count_greater_than
print(batched_count_greater_than(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0]])).tolist())
"""

OPERATORS = """
import sys
from vllm import AsyncEngineArgs
config = AsyncEngineArgs(model=sys.argv[1], enable_lora=True).create_engine_config().compilation_config
print(config.mode.name, config.custom_ops)
"""


def test_log_probabilities_need_no_compiler_on_the_machine(tmp_path: Path) -> None:
    tmp_path.joinpath("bin").mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in ("CC", "CXX")}
    environment |= {
        "PATH": str(tmp_path / "bin"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),  # Nothing compiled earlier helps out.
        "OMP_NUM_THREADS": "1",
    }

    ran = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, timeout=120
    )

    assert ran.stdout.endswith("[2]\n"), ran.stderr


def test_vllm_still_leaves_its_compiled_operators_out_where_it_serves_adapters(tiny_base: Path) -> None:
    """When it no longer does, COMPILED_LAYERS can go."""
    environment = os.environ | {lora_cpu.SWITCH: lora_cpu.STOCK, "VLLM_LOGGING_LEVEL": "ERROR"}

    ran = subprocess.run(
        [sys.executable, "-c", OPERATORS, str(tiny_base)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert ran.stdout.endswith("NONE ['none']\n"), ran.stderr
