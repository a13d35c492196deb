"""A network that breaks without a word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Wire:
    """A TCP connection's way through the network. When `cut`, nothing gets through and nobody is told."""

    def __init__(self) -> None:
        self.address = ""
        self._whole = asyncio.Event()
        self._whole.set()

    def cut(self) -> None:
        self._whole.clear()

    @contextlib.asynccontextmanager
    async def to(self, address: str) -> AsyncIterator[None]:
        """Lead to `address` until the block ends."""
        host, port = address.split(":")
        ways: set[asyncio.Task[None]] = set()

        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
            for way in (self._carry(reader, far_writer), self._carry(far_reader, writer)):
                ways.add(asyncio.create_task(way))

        async with await asyncio.start_server(connect, "127.0.0.1") as server:
            self.address = "{}:{}".format(*server.sockets[0].getsockname())
            try:
                yield
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while data := await reader.read(1 << 16):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
