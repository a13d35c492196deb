"""`python -m soak [--minutes 10] [--seed 0] [--report FILE]`, with tests/ on PYTHONPATH; `make soak` does it.

Exits 0 if every promise was kept, 1 if one was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from soak.soak import Plan, soak
from soak.verdict import as_json
from soak.view import show_result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 1_000_000)
    parser.add_argument("--report", type=Path, default=Path("soak.json"))
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 150)
    plan = Plan(seconds=options.minutes * 60, seed=options.seed)
    console.print(f"a soak of {options.minutes:g} minutes, --seed {plan.seed}")
    folder = Path(tempfile.mkdtemp(prefix="hotshoe-soak-"))
    result = asyncio.run(soak(plan, folder, console))
    show_result(result.record, result.checks, console)
    report = as_json(result.record, result.watch, result.checks, seed=plan.seed, minutes=options.minutes)
    options.report.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"{options.report} has it all", highlight=False)
    if not result.kept:
        console.print(f"a promise was broken: the server's log is {folder / 'server.log'}", style="bold red")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
