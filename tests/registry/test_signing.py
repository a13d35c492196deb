from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from hotshoe.adapter.errors import InvalidConfig, Untrusted
from hotshoe.adapter.manifest import Base, FileEntry, Manifest
from hotshoe.registry.signing import PublicKey, Signature, SigningKey, keygen

MANIFEST = Manifest(
    adapter="acme/support",
    base=Base("tiny", "", "0" * 64),
    rank=4,
    alpha=8.0,
    targets=("q_proj",),
    files=(FileEntry("adapter_model.safetensors", 10, "1" * 64),),
)
KEY = SigningKey.generate()


def test_a_key_says_whether_it_wants_a_passphrase(tmp_path: Path) -> None:
    keygen(tmp_path / "locked", "secret")
    keygen(tmp_path / "plain")
    assert SigningKey.is_encrypted(tmp_path / "locked")
    assert not SigningKey.is_encrypted(tmp_path / "plain")


def test_a_signature_survives_its_file_form_and_verifies() -> None:
    signature = Signature.parse(KEY.sign(MANIFEST.canonical()).encode())
    signature.verify(MANIFEST.canonical())
    assert signature.key == KEY.public


@pytest.mark.parametrize(
    "changed",
    [
        replace(MANIFEST, adapter="acme/legal"),
        replace(MANIFEST, files=(FileEntry("adapter_model.safetensors", 10, "2" * 64),)),
        replace(MANIFEST, base=Base("tiny", "", "1" * 64)),
        replace(MANIFEST, metrics={"exact": 1.0}),
    ],
)
def test_nothing_in_a_manifest_can_change_after_signing(changed: Manifest) -> None:
    with pytest.raises(Untrusted, match="changed after it was signed"):
        KEY.sign(MANIFEST.canonical()).verify(changed.canonical())


def test_a_signature_by_another_key_under_a_trusted_name_does_not_verify() -> None:
    forged = Signature(KEY.public, SigningKey.generate().sign(MANIFEST.canonical()).signature)
    with pytest.raises(Untrusted):
        forged.verify(MANIFEST.canonical())


@given(data=st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_as_a_signature_are_untrusted(data: bytes) -> None:
    with pytest.raises(Untrusted):
        Signature.parse(data)


@pytest.mark.parametrize("data", [b'{"key":"x","key":"y","signature":"z"}', b"{}", b" " * 20_000, b"[]"])
def test_a_broken_signature_file_is_untrusted(data: bytes) -> None:
    with pytest.raises(Untrusted):
        Signature.parse(data)


def test_an_empty_passphrase_is_no_passphrase_and_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="passphrase is empty"):
        keygen(tmp_path / "key", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("passphrase", [None, "correct horse"])
def test_a_saved_key_signs_the_same_and_is_its_owners_alone(tmp_path: Path, passphrase: str | None) -> None:
    path = tmp_path / "keys" / "acme.pem"
    public = keygen(path, passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert PublicKey.parse((tmp_path / "keys" / "acme.pem.pub").read_text()) == public
    key = SigningKey.load(path, passphrase)
    assert key.public == public
    assert (b"ENCRYPTED" in path.read_bytes()) == (passphrase is not None)
    assert repr(key) == f"SigningKey({public.key_id})"


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(InvalidConfig, match="never overwritten"):
        keygen(tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_a_key_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    keygen(tmp_path / "locked", "secret")
    keygen(tmp_path / "plain")
    (tmp_path / "rubbish").write_text("rubbish")
    elliptic = generate_private_key(SECP256R1())
    (tmp_path / "other").write_bytes(
        elliptic.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    for name in ("rubbish", "other"):
        (tmp_path / name).chmod(0o600)
    for name, passphrase, message in [
        ("locked", None, "give its passphrase"),
        ("locked", "wrong", "wrong passphrase"),
        ("plain", "any", "is not encrypted"),
        ("rubbish", None, "cannot be opened"),
        ("other", None, "no Ed25519 key"),
        ("absent", None, "cannot be read"),
    ]:
        with pytest.raises(InvalidConfig, match=message):
            SigningKey.load(tmp_path / name, passphrase)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    keygen(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(InvalidConfig, match="chmod 600"):
        SigningKey.load(tmp_path / "key")


@pytest.mark.parametrize(
    "text", ["", "ed25519:", "ed25519:AAAA", "rsa:" + str(KEY.public)[8:], f"{KEY.public}A"]
)
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match="no public key"):
        PublicKey.parse(text)
