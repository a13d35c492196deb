"""A server process with the echo engine, for tests that need a process: `python echo_main.py FOLDER SECONDS`.

FOLDER holds a shop's registry; SECONDS is what a token takes. Prints the address when it is ready.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from hotshoe.registry import fetch_base, open_registry
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.server import serve_until_signal


async def main(folder: Path, token_seconds: float) -> None:
    """Serve until a signal."""
    base = fetch_base(str(folder / "base"))
    engine = EchoEngine(base.base, token_seconds=token_seconds)
    config = ServeConfig(base="echo", listen="127.0.0.1:0", drain_seconds=5)
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        await serve_until_signal(config, engine, registry, on_ready=lambda text: print(text, flush=True))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
