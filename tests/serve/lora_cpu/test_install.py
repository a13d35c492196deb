"""What the plugin changes in vLLM, seen from a process that has nothing but vLLM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COUNT = """
from hotshoe.serve import lora_cpu
lora_cpu.register()
import torch
from vllm.v1.sample.ops.logprobs import batched_count_greater_than
print(batched_count_greater_than(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0]])).tolist())
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
