"""Keys to sign versions with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotshoe.cli.verb import JsonOption, print_json, verb

if TYPE_CHECKING:
    from hotshoe.registry.signing import SigningKey

PASSPHRASE = "HOTSHOE_KEY_PASSPHRASE"


@verb
def keygen(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Where the private key goes; the public one goes beside it."),
    ],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help=f"Encrypt it: asks, or takes ${PASSPHRASE}.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make an Ed25519 key to sign versions with; prints the public half, for a trust policy."""
    from hotshoe.registry import signing

    secret = os.environ.get(PASSPHRASE)
    if passphrase and secret is None:
        secret = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    public = signing.keygen(file, secret if passphrase else None)
    if as_json:
        print_json({"private": file, "public_key": str(public), "key_id": public.key_id})
    else:
        typer.echo(str(public))


def signing_key(file: Path | None) -> SigningKey | None:
    """The key in `file`; None for none. Its passphrase is taken from the environment, or asked for."""
    if file is None:
        return None
    from hotshoe.registry.signing import SigningKey

    secret = os.environ.get(PASSPHRASE)
    if secret is None and sys.stdin.isatty() and SigningKey.is_encrypted(file):
        secret = typer.prompt(f"Passphrase of {file}", hide_input=True, err=True)
    return SigningKey.load(file, secret)
