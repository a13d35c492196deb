"""TLS: who may connect, and how a certificate is renewed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from pathlib import Path

import grpc
import pytest
from support.certificates import Authority, Pair
from support.serving import echo_server

from hotshoe.adapter.errors import InvalidConfig, PermissionDenied, Unauthenticated, Unavailable
from hotshoe.client import AsyncClient, Client, Tls
from hotshoe.client.health import is_ready
from hotshoe.client.retry import NEVER
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.tls import Certificate, TlsFiles
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.sign("server")


async def serial_of(address: str) -> bytes:
    """The certificate that the server shows now."""
    host, port = address.split(":")
    pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
    return pem.encode()


async def test_a_client_that_trusts_the_authority_is_answered(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    files = TlsFiles(pair.certificate, pair.key)
    async with echo_server(tmp_path, tls=files) as served:
        tls = Tls(authority.file)
        async with AsyncClient(served.address, tls=tls) as client:
            assert (await client.generate("hi")).text == "base: hi"
        with Client(served.address, tls=Tls(authority.file, server_name="server")) as blocking:
            assert (await asyncio.to_thread(blocking.generate, "hi")).text == "base: hi"
        assert await asyncio.to_thread(is_ready, served.address, tls=tls)


async def test_a_client_without_tls_or_of_another_trust_is_not_answered(tmp_path: Path, pair: Pair) -> None:
    stranger = Authority(tmp_path / "elsewhere")
    async with echo_server(tmp_path, tls=TlsFiles(pair.certificate, pair.key)) as served:
        for tls in (None, Tls(stranger.file)):
            async with AsyncClient(served.address, tls=tls) as client:
                with pytest.raises(Unavailable):
                    await client.generate("hi")
            assert not await asyncio.to_thread(is_ready, served.address, tls=tls)


async def test_with_a_client_authority_only_its_clients_are_answered(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    ours, theirs = authority.sign("app"), Authority(tmp_path / "elsewhere").sign("app")
    files = TlsFiles(pair.certificate, pair.key, client_authority=authority.file)
    async with echo_server(tmp_path, tls=files) as served:
        async with AsyncClient(served.address, tls=Tls(authority.file, ours.certificate, ours.key)) as client:
            assert (await client.generate("hi")).text == "base: hi"
        for tls in (Tls(authority.file), Tls(authority.file, theirs.certificate, theirs.key)):
            async with AsyncClient(served.address, tls=tls) as client:
                with pytest.raises(Unavailable):
                    await client.generate("hi")


SUBJECTS = """
[tenants.acme]
subjects = ["acme-app"]
adapters = ["acme/*"]
default_adapter = "acme/support"

[tenants.globex]
subjects = ["globex-app"]
adapters = ["globex/*"]
"""


async def test_a_client_certificate_is_its_tenant_until_the_tenants_file_names_it_no_more(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(SUBJECTS)
    files = TlsFiles(pair.certificate, pair.key, client_authority=authority.file)
    shown = {name: authority.sign(name) for name in ("acme-app", "globex-app", "stranger")}

    async with contextlib.AsyncExitStack() as stack:
        served = await stack.enter_async_context(echo_server(tmp_path, tls=files, tenants=tenants))
        acme, globex, stranger = [
            await stack.enter_async_context(
                AsyncClient(served.address, tls=Tls(authority.file, each.certificate, each.key))
            )
            for each in shown.values()
        ]
        assert str((await acme.generate("hi")).resolved) == "acme/support@v1"
        assert [each.adapter for each in await acme.adapters()] == ["acme/support"]
        assert [each.adapter for each in await globex.adapters()] == ["globex/legal"]
        with pytest.raises(PermissionDenied, match="tenant globex may not use acme/support"):
            await globex.generate("hi", adapter="acme/support")
        with pytest.raises(Unauthenticated, match="client certificate"):
            await stranger.generate("hi")

        (tmp_path / "new").write_text(SUBJECTS.replace("globex-app", "globex-next"))
        os.replace(tmp_path / "new", tenants)
        with pytest.raises(Unauthenticated, match="client certificate"):
            await asyncio.wait_for(ask_on(globex), 20)  # On the connection that it has had all along.
        assert str((await acme.generate("hi")).resolved) == "acme/support@v1"


async def ask_on(client: AsyncClient) -> None:
    """Ask until that is refused."""
    while True:
        await client.adapters()
        await asyncio.sleep(0.02)


async def test_a_renewed_client_authority_decides_who_may_connect_next(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    next_one = Authority(tmp_path / "next")
    old, new = authority.sign("app"), next_one.sign("app")
    asked = tmp_path / "clients.pem"
    asked.write_bytes(authority.file.read_bytes())

    async def answered(shown: Pair) -> bool:
        tls = Tls(authority.file, shown.certificate, shown.key)
        async with AsyncClient(served.address, tls=tls, retry=NEVER) as client:
            try:
                await client.generate("hi")
            except Unavailable:
                return False
            return True

    files = TlsFiles(pair.certificate, pair.key, client_authority=asked)
    async with echo_server(tmp_path, tls=files) as served:
        assert (await answered(old), await answered(new)) == (True, False)
        asked.write_bytes(next_one.file.read_bytes())
        async with asyncio.timeout(20):
            while not await answered(new):
                await asyncio.sleep(0.2)
        assert not await answered(old)


async def test_a_renewed_certificate_is_shown_without_a_restart_while_streams_go_on(
    tmp_path: Path, authority: Authority, pair: Pair
) -> None:
    files = TlsFiles(pair.certificate, pair.key)
    async with echo_server(tmp_path, tls=files, token_seconds=0.05) as served:
        async with AsyncClient(served.address, tls=Tls(authority.file)) as client:
            stream = client.stream("hello " * 20)
            await anext(stream)
            assert await serial_of(served.address) == pair.certificate.read_bytes()
            renewed = authority.sign("server", days=90)
            async with asyncio.timeout(10):
                while await serial_of(served.address) != renewed.certificate.read_bytes():
                    await asyncio.sleep(0.2)
            text = "".join([getattr(event, "text", "") async for event in stream])
            assert text == "base: " + "hello " * 20
        async with AsyncClient(served.address, tls=Tls(authority.file)) as another:
            await another.generate("hi")


async def test_a_renewal_that_makes_no_sense_leaves_the_old_certificate(
    tmp_path: Path, authority: Authority, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    before = pair.certificate.read_bytes()
    async with echo_server(tmp_path, tls=TlsFiles(pair.certificate, pair.key)) as served:
        await serial_of(served.address)
        pair.key.write_text("nonsense")
        async with asyncio.timeout(10):
            while "the old certificate stays" not in caplog.text:
                assert await serial_of(served.address) == before
                await asyncio.sleep(0.2)


@pytest.mark.parametrize("fault", ["missing", "nonsense", "another key", "no authority"])
def test_files_that_are_no_certificate_and_key_are_refused_by_name(
    authority: Authority, pair: Pair, fault: str
) -> None:
    files = TlsFiles(pair.certificate, pair.key)
    match fault:
        case "missing":
            pair.certificate.unlink()
        case "nonsense":
            pair.certificate.write_text("nonsense")
        case "another key":
            files = TlsFiles(pair.certificate, authority.sign("other").key)
        case "no authority":
            files = TlsFiles(pair.certificate, pair.key, client_authority=pair.key)
    with pytest.raises(InvalidConfig, match=r"server\.(crt|key)"):
        Certificate(files)


def test_a_server_that_asks_for_certificates_may_listen_beyond_this_machine(pair: Pair) -> None:
    ServeConfig(base="b", listen="0.0.0.0:1", tls=TlsFiles(pair.certificate, pair.key, pair.certificate))
    with pytest.raises(InvalidConfig, match="--tls-client-ca"):
        ServeConfig(base="b", listen="0.0.0.0:1", tls=TlsFiles(pair.certificate, pair.key))


def test_a_client_certificate_without_its_key_is_refused(pair: Pair) -> None:
    with pytest.raises(InvalidConfig, match="give both"):
        Tls(certificate=pair.certificate)
    with pytest.raises(InvalidConfig, match=r"none\.pem cannot be read"):
        Client("127.0.0.1:1", tls=Tls(Path("none.pem")))


def test_tls_is_what_the_environment_says() -> None:
    assert Tls.from_environment({}) is None
    assert Tls.from_environment({"HOTSHOE_TLS": "1"}) == Tls()
    assert Tls.from_environment({"HOTSHOE_TLS_CA": "ca.pem", "HOTSHOE_TLS_SERVER_NAME": "gpu"}) == Tls(
        Path("ca.pem"), server_name="gpu"
    )


# Rude clients


async def test_a_connection_has_so_many_answers_at_once_and_the_next_ones_wait(tmp_path: Path) -> None:
    async with (
        echo_server(tmp_path, max_streams=2, token_seconds=0.05) as served,
        AsyncClient(served.address) as client,
    ):
        await client.generate("hi")  # The server has said its limit by then.
        asked = [asyncio.ensure_future(client.generate("hello " * 20)) for _ in range(6)]
        await asyncio.sleep(0.5)
        assert len(served.engine.running) == 2
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def test_metadata_without_end_is_refused_and_the_next_call_answered(tmp_path: Path) -> None:
    async with echo_server(tmp_path) as served, grpc.aio.insecure_channel(served.address) as channel:
        stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)
        request = pb.GenerateRequest(generation=pb.Generation(text="hi"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Generate(request, metadata=[("x-padding", "x" * 100_000)])
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stub.Generate(request)).answers[0].text == "base: hi"
