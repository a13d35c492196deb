"""Who calls: from the call's metadata or client certificate, never from the message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from hotshoe.adapter.errors import HotshoeError, InvalidConfig, PermissionDenied, Unauthenticated
from hotshoe.serve.tenants import ANYONE, Tenant, Tenants
from hotshoe.serve.tenants_file import parse_tenants

log = logging.getLogger(__name__)

LARGEST_FILE_BYTES = 16 << 20

Metadata = Iterable[tuple[str, str | bytes]]
Peer = Callable[[], Mapping[str, Iterable[bytes]] | None]
"""What gRPC knows of the other side: certificate fields by name. It takes gRPC as long as a whole message."""


class Identity(Protocol):
    """Tells who calls. fault: why what says so now does not count; None if it does."""

    fault: HotshoeError | None

    def of(self, metadata: Metadata, peer: Peer) -> Tenant:
        """The tenant behind a call; raise Unauthenticated if it cannot be told."""
        ...

    def watching(self) -> AbstractAsyncContextManager[None]:
        """Follow changes of who may call until the block ends."""
        ...


class OpenDoor:
    """Asks nobody: everybody is the one tenant who may do everything."""

    fault: HotshoeError | None = None

    def of(self, metadata: Metadata, peer: Peer) -> Tenant:
        return ANYONE

    def watching(self) -> AbstractAsyncContextManager[None]:
        return contextlib.nullcontext()


class TenantsFile:
    """`tenants.toml`, read again when it changes. A file that makes no sense changes nothing.

    fault: why the file that is there now does not count; None if it does.
    """

    def __init__(self, path: Path) -> None:
        """Raises InvalidConfig where the file cannot be read or makes no sense."""
        self._path = path
        self._seen = _stamp(path)
        self.current: Tenants = _read(path)
        self.fault: HotshoeError | None = None

    def of(self, metadata: Metadata, peer: Peer) -> Tenant:
        key = _key(metadata)
        if key is not None:
            tenant = self.current.of_key(key)
            if tenant is None:
                raise Unauthenticated("this API key is nobody's: ask the server's operator for another one")
            return tenant
        for name in (peer() or {}).get("x509_common_name", ()):
            if (tenant := self.current.of_subject(name.decode(errors="replace"))) is not None:
                return tenant
        raise Unauthenticated(
            "this server wants to know who calls: send metadata `authorization: Bearer KEY`, or a client "
            "certificate that it knows"
        )

    def reload(self) -> bool:
        """Read the file if it changed; True if something new counts now. Blocking, though not for long."""
        if (stamp := _stamp(self._path)) == self._seen:
            return False
        self._seen = stamp
        try:
            self.current = _read(self._path)
        except InvalidConfig as error:
            self.fault = error
            log.error("%s: the tenants stay as they were", error)
            return False
        self.fault = None
        log.info("%s was read: %d tenants", self._path, len(self.current.by_name))
        return True

    @contextlib.asynccontextmanager
    async def watching(self, *, poll_seconds: float = 1.0) -> AsyncIterator[None]:
        """Look for changes until the block ends."""

        async def watch() -> None:
            while True:
                await asyncio.sleep(poll_seconds)
                try:
                    await asyncio.to_thread(self.reload)
                except Exception:
                    log.exception("the tenants file cannot be watched, trying again")

        task = asyncio.create_task(watch(), name="watch tenants")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def require_admin(tenant: Tenant) -> None:
    """Raise PermissionDenied unless the tenant may use the Admin service."""
    if not tenant.admin:
        raise PermissionDenied(
            f"tenant {tenant.name} may not administer this server: its operator allows it by admin = true"
        )


def _key(metadata: Metadata) -> str | None:
    for name, value in metadata:
        text = value if isinstance(value, str) else value.decode(errors="replace")
        if name == "authorization":
            scheme, _, key = text.partition(" ")
            if scheme.lower() != "bearer" or not key.strip():
                raise Unauthenticated("metadata `authorization` is not of the form `Bearer KEY`")
            return key.strip()
        if name == "x-api-key":
            return text.strip()
    return None


def _read(path: Path) -> Tenants:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
        if len(data) > LARGEST_FILE_BYTES:
            raise InvalidConfig(f"{path} is larger than {LARGEST_FILE_BYTES} bytes: that is no tenants file")
        return parse_tenants(data.decode())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"the tenants file {path} cannot be read: {error}") from error
    except InvalidConfig as error:
        raise InvalidConfig(f"{path}: {error.message}") from error


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
