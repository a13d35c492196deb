"""Waiting for what comes when it comes: as long as it takes on a busy machine, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 20.0


async def eventually(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until it holds. Raises TimeoutError if it does not in time."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)
