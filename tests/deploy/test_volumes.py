"""Files change in a pod as the kubelet changes them: a link to a whole folder, put in the old one's place."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from pathlib import Path

from support.certificates import Authority
from support.serving import echo_server

from hotshoe.adapter.errors import Unauthenticated
from hotshoe.client import AsyncClient, Tls
from hotshoe.serve.tenants import key_hash
from hotshoe.serve.tls import TlsFiles


class Volume:
    """What is mounted from a ConfigMap or a Secret."""

    def __init__(self, path: Path, **files: bytes) -> None:
        self._path = path
        self._numbers = itertools.count()
        path.mkdir()
        self.update(**files)
        for name in files:
            (path / name).symlink_to(Path("..data", name))

    def update(self, **files: bytes) -> None:
        """Swap all files at once."""
        fresh = self._path / f"..{next(self._numbers)}"
        fresh.mkdir()
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        link = self._path / "..data_tmp"
        link.symlink_to(fresh.name)
        link.replace(self._path / "..data")

    def __truediv__(self, name: str) -> Path:
        return self._path / name


async def test_a_config_maps_tenants_and_a_secrets_certificate_change_under_a_server(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path / "authority")

    def certificate() -> dict[str, bytes]:
        pair = authority.sign("hotshoe")
        return {"crt": pair.certificate.read_bytes(), "key": pair.key.read_bytes()}

    def tenants(key: str) -> bytes:
        return f'[tenants.acme]\nkeys = ["{key_hash(key)}"]\n'.encode()

    etc = Volume(tmp_path / "etc", tenants=tenants("before"))
    secret = Volume(tmp_path / "tls", **certificate())
    tls, file = TlsFiles(secret / "crt", secret / "key"), etc / "tenants"
    async with echo_server(tmp_path / "shop", tls=tls, tenants=file) as served:
        assert await answers(served.address, authority, "before")
        renewed = certificate()
        etc.update(tenants=tenants("after"))
        secret.update(**renewed)
        async with asyncio.timeout(10):
            while not await answers(served.address, authority, "after"):
                await asyncio.sleep(0.1)
            while await shown(served.address) != renewed["crt"]:
                await asyncio.sleep(0.1)
        assert not await answers(served.address, authority, "before")


async def answers(address: str, authority: Authority, key: str) -> bool:
    async with AsyncClient(address, api_key=key, tls=Tls(authority.file)) as client:
        try:
            await client.generate("hi")
        except Unauthenticated:
            return False
    return True


async def shown(address: str) -> bytes:
    """The certificate that the server shows a new connection."""
    host, port = address.split(":")
    return (await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))).encode()
