"""Training runs in processes that may take only so much memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

RUN = """
import json, sys
from pathlib import Path
from hotshoe.train.config import TrainConfig
from hotshoe.train.plan import plan
from hotshoe.train.run import train
raw, folder, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
train(TrainConfig.parse(raw, folder=folder), out=out)
"""


def run_with_room(spare: int, raw: Any, folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """A run in a process that may take `spare` bytes more than it has once its libraries are loaded."""
    code = (
        "import resource, hotshoe.train.recipes, trl.trainer.sft_trainer, torch; torch.set_num_threads(1)\n"
        "import matplotlib.figure, matplotlib.backends.backend_agg\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {spare}, used + {spare}))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code + RUN, json.dumps(raw), str(folder), str(out)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
