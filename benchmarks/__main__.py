"""`python -m benchmarks [GROUP ...] [--quick] [--dry]`: measure, print, and write docs/benchmarks.md.

Each group runs in a process of its own, so that none leaves anything behind for the next.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import time

import uvloop

GROUPS = (
    "cli",
    "overhead",
    "lora",
    "fairness",
    "streaming",
    "swap_gap",
    "cold_adapters",
    "many_adapters",
    "startup",
    "registry",
    "training",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"any of: {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="one round each, to see that it runs")
    parser.add_argument("--dry", action="store_true", help="print only, leave docs/ as it is")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    chosen = options.groups or list(GROUPS)
    if len(chosen) == 1:
        return _measure(chosen[0], quick=options.quick, dry=options.dry)
    flags = [flag for flag in ("--quick", "--dry") if getattr(options, flag[2:])]
    failed = [group for group in chosen if _apart(group, flags)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _apart(group: str, flags: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "benchmarks", group, *flags], check=False).returncode


def _measure(name: str, *, quick: bool, dry: bool) -> int:
    from benchmarks import report

    began = time.monotonic()
    module = importlib.import_module(f"benchmarks.{name}")
    # The loop that all servers here run on, so that neither clients nor the bare engine are held back.
    measured = uvloop.run(module.measure(1 if quick else module.ROUNDS))
    for group in measured if isinstance(measured, list) else [measured]:
        report.show(group)
        if not dry:
            report.record(group)
    print(f"{name}: {time.monotonic() - began:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
