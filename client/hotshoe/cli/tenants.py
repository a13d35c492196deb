"""Verbs around tenants: tenant-key."""

from __future__ import annotations

import secrets

import typer

from hotshoe.cli.verb import JsonOption, print_json, verb

KEY_BYTES = 32


@verb
def tenant_key(as_json: JsonOption = False) -> None:
    """Make an API key: the key for the tenant, its hash for `keys` in the server's tenants file."""
    from hotshoe.serve.tenants import key_hash

    key = f"hs_{secrets.token_urlsafe(KEY_BYTES)}"
    if as_json:
        print_json({"key": key, "hash": key_hash(key)})
        return
    typer.echo(f"key, for the tenant alone (it is kept nowhere): {key}")
    typer.echo(f'line for tenants.toml:                          keys = ["{key_hash(key)}"]')
