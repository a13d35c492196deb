"""Ed25519 signatures over the canonical manifest, which names every file of a version by its sha256.

A signature stands in the version's tree as `.hotshoe/signature.json`. It covers the adapter's name, the
base and all bytes, so it cannot be moved to another adapter. Who is believed for what is `policy`'s to say.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from hotshoe.adapter.errors import InvalidConfig, Untrusted
from hotshoe.registry.inspect.strict_json import parse_object
from hotshoe.registry.verification import SIGNATURE_PATH

MAX_SIGNATURE_BYTES = 16 << 10

_ALGORITHM = "ed25519"
# A signature made here is never valid for anything else that the same key may sign.
_CONTEXT = b"hotshoe manifest v1\n"
_MAX_KEY_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key to verify with; its text form is `ed25519:` and 43 characters of base64url."""

    raw: bytes

    @property
    def key_id(self) -> str:
        """16 hex digits that name the key to people; never what trust is decided by."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Read the text form; raise InvalidConfig for anything else."""
        algorithm, _, encoded = text.strip().partition(":")
        try:
            raw = _decode(encoded)
            Ed25519PublicKey.from_public_bytes(raw)
        except (ValueError, binascii.Error):
            raw = b""
        if algorithm != _ALGORITHM or not raw:
            raise InvalidConfig(
                f"{text[:80]!r} is no public key: give the line that `hotshoe keygen` printed, ed25519:..."
            )
        return cls(raw)

    def __str__(self) -> str:
        return f"{_ALGORITHM}:{_encode(self.raw)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """Over one manifest, by one key."""

    key: PublicKey
    signature: bytes

    def encode(self) -> bytes:
        """The bytes of `.hotshoe/signature.json`."""
        document = {"key": str(self.key), "signature": _encode(self.signature)}
        return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, data: bytes) -> Signature:
        """Read what a stranger may have written; raise Untrusted for what is no signature."""
        try:
            if len(data) > MAX_SIGNATURE_BYTES:
                raise ValueError(f"{len(data)} bytes are over the limit of {MAX_SIGNATURE_BYTES}")
            document = parse_object(data)
            return cls(PublicKey.parse(str(document["key"])), _decode(str(document["signature"])))
        except (ValueError, KeyError, InvalidConfig) as error:
            raise Untrusted(f"{SIGNATURE_PATH} is not readable ({error}): sign the version again") from error

    def verify(self, manifest: bytes) -> None:
        """Raise Untrusted unless this is the key's signature over these canonical manifest bytes."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key.raw).verify(self.signature, _CONTEXT + manifest)
        except InvalidSignature as error:
            raise Untrusted(
                f"the signature of key {self.key.key_id} is not over this manifest: "
                "the version was changed after it was signed, do not use it",
                details={"key_id": self.key.key_id},
            ) from error


class SigningKey:
    """A private key. Its repr shows the key id only."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = PublicKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path, passphrase: str | None = None) -> SigningKey:
        """Read a key that `save` wrote; raise InvalidConfig that says what is wrong, never what is in it."""
        data = _read_private(path)
        try:
            private = load_pem_private_key(data, passphrase.encode() if passphrase else None)
        except TypeError as error:
            what = (
                "is encrypted: give its passphrase (a command takes it from HOTSHOE_KEY_PASSPHRASE)"
                if not passphrase
                else "is not encrypted: give no passphrase (unset HOTSHOE_KEY_PASSPHRASE)"
            )
            raise InvalidConfig(f"the key {path} {what}") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidConfig(
                f"the key {path} cannot be opened: wrong passphrase, or no file that `hotshoe keygen` wrote"
            ) from error
        if not isinstance(private, Ed25519PrivateKey):
            raise InvalidConfig(f"the key {path} is no Ed25519 key: make one with `hotshoe keygen`")
        return cls(private)

    @staticmethod
    def is_encrypted(path: Path) -> bool:
        """Whether `load` will want a passphrase; InvalidConfig where the file cannot be read."""
        return _read_private(path).startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY")

    def save(self, path: Path, passphrase: str | None = None) -> None:
        """Write PEM (PKCS#8), readable by its owner alone, encrypted if there is a passphrase.

        Never overwrites: a lost private key cannot be made again. Raises InvalidConfig where `path` exists
        or cannot be written, and for an empty passphrase, which would leave the key open.
        """
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            if not passphrase:
                raise InvalidConfig("the passphrase is empty: give one, or None for a key in the clear")
            encryption = BestAvailableEncryption(passphrase.encode())
        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise InvalidConfig(f"{path} exists: keys are never overwritten, name another file") from error
        except OSError as error:
            raise InvalidConfig(f"the key cannot be written to {path}: {error.strerror}") from error
        with os.fdopen(handle, "wb") as file:
            file.write(pem)

    def sign(self, manifest: bytes) -> Signature:
        """Sign the canonical bytes of a manifest."""
        return Signature(self.public, self._private.sign(_CONTEXT + manifest))

    def __repr__(self) -> str:
        return f"SigningKey({self.public.key_id})"


def keygen(path: Path, passphrase: str | None = None) -> PublicKey:
    """Make a key: the private half in `path`, the public line in `path` + `.pub`; return the public half."""
    key = SigningKey.generate()
    key.save(path, passphrase)
    path.with_name(f"{path.name}.pub").write_text(f"{key.public}\n", encoding="utf-8")
    return key.public


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise InvalidConfig(
            f"the key {path} cannot be read ({error.strerror}): make one with `hotshoe keygen`"
        ) from error
    if os.name == "posix" and mode & 0o077:
        raise InvalidConfig(f"the key {path} is open to others than its owner: run chmod 600 on it")
    return data


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data) != text:
        raise ValueError("not canonical base64url")
    return data
