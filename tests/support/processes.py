"""Processes that come and go while somebody looks at them."""

from __future__ import annotations

import psutil


def runs(process: psutil.Process) -> bool:
    """Whether it does; one that ended and that nobody has asked for its exit code does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command(process: psutil.Process) -> str:
    """What it was started with; nothing once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
