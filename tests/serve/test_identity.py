"""Who calls, and the file that says so while it changes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hotshoe.adapter.errors import InvalidConfig, PermissionDenied, Unauthenticated
from hotshoe.serve.identity import OpenDoor, TenantsFile, require_admin
from hotshoe.serve.tenants import ANYONE, key_hash

TEXT = f"""
[tenants.acme]
keys = ["{key_hash("hs_acme")}"]
subjects = ["acme-app"]
adapters = ["acme/*"]

[tenants.root]
keys = ["{key_hash("hs_root")}"]
admin = true
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "tenants.toml"
    written.write_text(TEXT)
    return written


def replace(path: Path, text: str) -> None:
    """As an editor or a config map does it: another file in its place."""
    other = path.with_suffix(".new")
    other.write_text(text)
    os.replace(other, path)


@pytest.mark.parametrize(
    ("metadata", "peer"),
    [
        ([("authorization", "Bearer hs_acme")], {}),
        ([("authorization", "bearer  hs_acme ")], {}),
        ([("x-api-key", "hs_acme")], {}),
        ([("x-api-key", b"hs_acme")], {}),
        ([("user-agent", "x")], {"x509_common_name": [b"acme-app"]}),
    ],
)
def test_a_key_or_a_certificate_tells_who_calls(
    path: Path, metadata: list[tuple[str, str | bytes]], peer: dict[str, list[bytes]]
) -> None:
    assert TenantsFile(path).of(metadata, lambda: peer).name == "acme"


@pytest.mark.parametrize(
    ("metadata", "peer", "says"),
    [
        ([], {}, "send metadata"),
        ([("authorization", "Bearer hs_wrong")], {}, "nobody's"),
        ([("authorization", "Basic aHM6")], {}, "not of the form"),
        ([("authorization", "Bearer ")], {}, "not of the form"),
        ([("authorization", f"Bearer {key_hash('hs_acme')}")], {}, "nobody's"),
        ([("x-api-key", "")], {}, "nobody's"),
        ([], {"x509_common_name": [b"stranger"]}, "send metadata"),
        ([("x-api-key", "hs_wrong")], {"x509_common_name": [b"acme-app"]}, "nobody's"),
    ],
)
def test_who_cannot_be_told_is_not_let_in(
    path: Path, metadata: list[tuple[str, str | bytes]], peer: dict[str, list[bytes]], says: str
) -> None:
    with pytest.raises(Unauthenticated, match=says) as raised:
        TenantsFile(path).of(metadata, lambda: peer)
    assert "hs_" not in raised.value.message


def test_an_open_door_asks_nobody_not_even_grpc() -> None:
    assert OpenDoor().of([], lambda: pytest.fail("asked")) is ANYONE


def test_only_an_admin_administers(path: Path) -> None:
    tenants = TenantsFile(path).current.by_name
    require_admin(tenants["root"])
    require_admin(ANYONE)
    with pytest.raises(PermissionDenied, match="acme may not administer"):
        require_admin(tenants["acme"])


def test_a_changed_file_counts_from_the_next_call_on(path: Path) -> None:
    file = TenantsFile(path)
    assert not file.reload()
    replace(path, TEXT.replace("acme-app", "other-app"))
    assert file.reload()
    assert file.of([], lambda: {"x509_common_name": [b"other-app"]}).name == "acme"
    with pytest.raises(Unauthenticated):
        file.of([], lambda: {"x509_common_name": [b"acme-app"]})


@pytest.mark.parametrize("bad", ["[tenants", "[tenants.acme]\nkey = 1", "\0", None])
def test_a_bad_file_keeps_the_old_one_and_says_why(path: Path, bad: str | None) -> None:
    file = TenantsFile(path)
    if bad is None:
        path.unlink()
    else:
        replace(path, bad)
    assert not file.reload()
    assert file.fault is not None
    assert str(path) in file.fault.message
    assert file.of([("x-api-key", "hs_acme")], dict).name == "acme"
    replace(path, TEXT)
    assert file.reload()
    assert file.fault is None


@pytest.mark.parametrize("content", ["[tenants", b"\xff\xfe", None])
def test_a_server_does_not_start_with_a_bad_file(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "tenants.toml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidConfig, match=r"tenants\.toml"):
        TenantsFile(path)


async def test_a_watched_file_is_read_again_by_itself(path: Path) -> None:
    file = TenantsFile(path)
    async with file.watching(poll_seconds=0.01), asyncio.timeout(5):
        replace(path, "[tenants.nobody]")
        while list(file.current.by_name) != ["nobody"]:
            await asyncio.sleep(0.005)
