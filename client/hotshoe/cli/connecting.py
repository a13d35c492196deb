"""The options of verbs that call a server: where it is, and whom to trust."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.cli.verb import joined

if TYPE_CHECKING:
    from hotshoe.client import Tls

DEFAULT_TARGET = "127.0.0.1:50051"

TargetOption = Annotated[
    str, typer.Option("--target", envvar="HOTSHOE_TARGET", metavar="HOST:PORT", help="The server.")
]
ApiKeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="HOTSHOE_API_KEY",
        metavar="KEY",
        show_envvar=True,
        help="Who calls. Better in the environment, where no process list shows it.",
    ),
]
TlsOption = Annotated[
    bool, typer.Option("--tls", envvar="HOTSHOE_TLS", help="Speak TLS, trusting public authorities.")
]
TlsCaOption = Annotated[
    Path | None,
    typer.Option("--tls-ca", envvar="HOTSHOE_TLS_CA", metavar="FILE", help="Speak TLS, trusting this CA."),
]
TlsCertOption = Annotated[
    Path | None,
    typer.Option("--tls-cert", envvar="HOTSHOE_TLS_CERT", metavar="FILE", help="Our certificate (mTLS)."),
]
TlsKeyOption = Annotated[
    Path | None,
    typer.Option("--tls-key", envvar="HOTSHOE_TLS_KEY", metavar="FILE", help="Our certificate's key."),
]


def tls_of(tls: bool, ca: Path | None, certificate: Path | None, key: Path | None) -> Tls | None:
    """What the options above ask for; None to talk in the clear."""
    import os

    from hotshoe.client import Tls

    if not (tls or ca or certificate or key):
        return None
    return Tls(ca, certificate, key, os.environ.get("HOTSHOE_TLS_SERVER_NAME") or None)


def operator_verb(function: Callable[..., None]) -> Callable[..., None]:
    """Make a verb of a function whose first argument is an AdminClient, connected as its options say."""

    def run(
        *,
        target: TargetOption = DEFAULT_TARGET,
        api_key: ApiKeyOption = None,
        tls: TlsOption = False,
        tls_ca: TlsCaOption = None,
        tls_cert: TlsCertOption = None,
        tls_key: TlsKeyOption = None,
        **own: Any,
    ) -> None:
        from hotshoe.client import AdminClient

        with AdminClient(target, api_key=api_key, tls=tls_of(tls, tls_ca, tls_cert, tls_key)) as admin:
            function(admin, **own)

    return joined(run, function)
