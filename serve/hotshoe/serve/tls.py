"""The server's certificate, read anew whenever its files change: a renewal needs no restart."""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509

from hotshoe.adapter.errors import InvalidConfig

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. certificate: the server's, then its issuers'. key: its private key, without a passphrase.

    client_authority: who signs the certificates that every client must show (mTLS); None asks for none.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None


@dataclass(frozen=True, slots=True)
class _Certificate:
    configuration: grpc.ServerCertificateConfiguration
    expires: float


class Certificate:
    """What is in the files now, or was when they last made sense."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises InvalidConfig if the files are missing, unreadable, or do not belong together."""
        self._files = files
        self._stamp = _stamp(files)
        self._known = _read(files)
        self._looked = time.monotonic()

    @property
    def expires(self) -> float:
        """When it ends, in seconds since 1970."""
        return self._known.expires

    def credentials(self) -> grpc.ServerCredentials:
        """For a port: each handshake gets the certificate as it is then."""
        return grpc.dynamic_ssl_server_credentials(
            self._known.configuration,
            self._renewed,
            require_client_authentication=self._files.client_authority is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration:
        """Called by gRPC in threads of its own at every handshake."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            self._look()
        return self._known.configuration

    def _look(self) -> None:
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return
        try:
            self._known = _read(self._files)
        except InvalidConfig as error:
            # Perhaps only one of two files is written yet: the next handshake looks again.
            log.error("the old certificate stays: %s", error)
            return
        self._stamp = stamp
        log.info("took the new certificate in %s", self._files.certificate)


def _stamp(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    """Changes whenever a file does, symbolic links to new targets included."""
    found = []
    for path in (files.certificate, files.key, files.client_authority):
        if path is not None:
            try:
                stat = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def _read(files: TlsFiles) -> _Certificate:
    certificate, key = _bytes(files.certificate), _bytes(files.key)
    authority = _bytes(files.client_authority) if files.client_authority else None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            files.certificate, files.key, password=""
        )
    except ssl.SSLError as error:
        raise InvalidConfig(
            f"{files.certificate} and {files.key} are no certificate and its private key: "
            f"{error.reason or error}: give PEM files that belong together, the key without a passphrase"
        ) from error
    except OSError as error:
        raise InvalidConfig(f"{files.certificate} cannot be read: {error}") from error
    if authority is not None:
        _first_certificate(authority, files.client_authority)
    return _Certificate(
        grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authority),
        expires=_first_certificate(certificate, files.certificate).not_valid_after_utc.timestamp(),
    )


def _first_certificate(pem: bytes, path: Path | None) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        raise InvalidConfig(f"{path} holds no PEM certificate: {error}") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidConfig(f"{path} cannot be read: {error.strerror}") from error
