"""Verbs for operators of a server: status, resident, warm, pin, unpin, evict, watch, drain, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.adapter.errors import Unavailable
from hotshoe.adapter.reference import AdapterRef
from hotshoe.cli.connecting import operator_verb
from hotshoe.cli.verb import JsonOption, print_json, print_table, printable, verb

if TYPE_CHECKING:
    from hotshoe.client import AdminClient
    from hotshoe.wire.admin import Happening, ServerStatus, Share
else:
    AdminClient = Any  # typer evaluates annotations, and the client takes long to import.

MIB = 1 << 20

RefArgument = Annotated[str, typer.Argument(metavar="ORG/NAME[@SELECTOR]", help="Default: what prod means.")]


@verb
@operator_verb
def status(admin: AdminClient, as_json: JsonOption = False) -> None:
    """Show how a server is: requests, adapters, tenants, how old its knowledge of aliases is."""
    told = admin.status()
    if as_json:
        print_json(told)
        return
    full, base = told.adapters, told.base
    facts = {
        "state": _state(told),
        "base": f"{base} {base.digest[:12]}",
        "server": f"hotshoe {told.server_version}, since {told.started_at:%Y-%m-%d %H:%M:%SZ}",
        "requests": f"{told.running} running, {told.waiting} waiting",
        "adapters": f"{full.loaded} loaded, {full.leased} in use, {full.loading} loading; {full.slots} slots",
        "their memory": f"{full.bytes / MIB:,.1f} of {full.capacity_bytes / MIB:,.0f} MiB",
        "aliases": f"as the registry had them {told.alias_age_seconds:.1f} s ago",
        **({"tenants file": f"not taken: {told.tenants_fault}"} if told.tenants_fault else {}),
        **{f"stuck: {each.alias}": f"{each.reason}: {each.message}" for each in told.stuck},
    }
    print_table("", ("what", "how it is"), facts.items())
    _print_shares("tenant", told.tenants)
    _print_shares("adapter", told.used_adapters)


@verb
@operator_verb
def resident(admin: AdminClient, as_json: JsonOption = False) -> None:
    """List the adapters that a server holds, loads, or could not load."""
    adapters = admin.residency()
    if as_json:
        print_json([{**_fields(each), "state": each.state.value} for each in adapters])
        return
    print_table(
        f"{len(adapters)} versions",
        ("adapter", "version", "state", "in use", "hits", "idle", "pinned", "error"),
        (
            (
                each.adapter,
                each.version,
                each.state.value,
                str(each.leases),
                str(each.hits),
                f"{each.idle_seconds:.0f} s",
                "yes" if each.pinned else "",
                f"{each.error_reason}: {each.error_message}" if each.error_reason else "",
            )
            for each in adapters
        ),
    )


@verb
@operator_verb
def warm(admin: AdminClient, ref: RefArgument) -> None:
    """Load an adapter before anybody asks for it."""
    parsed = AdapterRef.parse(ref)
    for state in admin.warm(parsed):
        typer.echo(f"{parsed.adapter}@{state.version}: {state.state.value}")


@verb
@operator_verb
def pin(admin: AdminClient, ref: RefArgument) -> None:
    """Load a version and keep it loaded until it is unpinned."""
    typer.echo(f"{AdapterRef.parse(ref).adapter}@{admin.pin(ref)}: pinned")


@verb
@operator_verb
def unpin(admin: AdminClient, ref: RefArgument) -> None:
    """Let a pinned version go when its place is needed."""
    typer.echo(f"{AdapterRef.parse(ref).adapter}@{admin.unpin(ref)}: not pinned")


@verb
@operator_verb
def evict(admin: AdminClient, ref: RefArgument) -> None:
    """Unload a version that no request uses."""
    typer.echo(f"{AdapterRef.parse(ref).adapter}@{admin.evict(ref)}: not loaded")


@verb
@operator_verb
def watch(admin: AdminClient, as_json: JsonOption = False) -> None:
    """Tell what happens to a server's adapters, until interrupted; with --json, a line for each."""
    import json

    for each in admin.watch():
        if as_json:
            line = {**_fields(each), "what": each.what.value, "at": each.at.isoformat()}
            typer.echo(json.dumps(line, ensure_ascii=False))
        else:
            typer.echo(_sentence(each))


@verb
@operator_verb
def drain(
    admin: AdminClient,
    seconds: Annotated[float, typer.Option(help="How long to wait for answers; 0 is without end.")] = 0.0,
) -> None:
    """Take a server out of service until `resume`; waits until its answers have ended."""
    left = admin.drain(seconds)
    if left:
        raise Unavailable(f"{left} requests are still under way, and no new ones are taken: drain again")
    typer.echo("drained: nothing is under way, and no requests are taken")


@verb
@operator_verb
def resume(admin: AdminClient) -> None:
    """Take a drained server into service again."""
    admin.resume()
    typer.echo("requests are taken")


def _state(told: ServerStatus) -> str:
    if told.draining:
        return "draining"
    return "serving" if told.serving else "the engine does not answer"


def _print_shares(title: str, shares: tuple[Share, ...]) -> None:
    if not shares:
        return
    print_table(
        "",
        (title, "running", "requests", "failed", "tokens in", "tokens out", "first token"),
        (
            (
                each.name or "-",
                str(each.running),
                f"{each.requests:,}",
                f"{each.failed:,}",
                f"{each.prompt_tokens:,}",
                f"{each.output_tokens:,}",
                f"{each.first_token_ms:.0f} ms",
            )
            for each in shares
        ),
    )


def _sentence(each: Happening) -> str:
    name = f"{each.adapter}@{each.alias or each.version}"
    goes_to = f" to {each.version}" if each.alias and each.version else ""
    details = [
        f"{each.seconds * 1000:.0f} ms" if each.seconds else "",
        each.reason,
        printable(each.message),
    ]
    aside = ", ".join(filter(None, details))
    return f"{each.at:%H:%M:%S} {name} {each.what.value}{goes_to}" + (f" ({aside})" if aside else "")


def _fields(value: Any) -> dict[str, Any]:
    import dataclasses

    return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
