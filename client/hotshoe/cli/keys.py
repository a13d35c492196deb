"""Keys to sign versions with."""

from __future__ import annotations

import os
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
    """The key in `file`, its passphrase from the environment; None for none."""
    if file is None:
        return None
    from hotshoe.registry.signing import SigningKey

    return SigningKey.load(file, os.environ.get(PASSPHRASE))
