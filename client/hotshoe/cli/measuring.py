"""Verbs that measure a server: bench, top."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.cli.connecting import (
    DEFAULT_TARGET,
    ApiKeyOption,
    TargetOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TlsOption,
    operator_verb,
    tls_of,
)
from hotshoe.cli.verb import JsonOption, print_json, print_table, verb

if TYPE_CHECKING:
    from hotshoe.client import AdminClient, AsyncClient
    from hotshoe.client.measures import Report, Spread
else:
    AdminClient = Any  # typer evaluates annotations, and the client takes long to import.


@verb
def bench(
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="ORG/NAME[@SELECTOR]",
            help="Send to this one; may be said again, the most wanted first; `base` is the base alone. "
            "Default: all that the server lists.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long requests are sent.")] = 10.0,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second, arriving by chance. Default: see --callers.")
    ] = None,
    callers: Annotated[int, typer.Option(help="Callers who ask again when answered.")] = 8,
    zipf: Annotated[
        float, typer.Option(help="How much more the first adapters are wanted: 0 is all alike.")
    ] = 1.0,
    prompt_words: Annotated[str, typer.Option(metavar="FROM:TO", help="Words of a prompt.")] = "16:64",
    output_tokens: Annotated[str, typer.Option(metavar="FROM:TO", help="Tokens of an answer.")] = "32",
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 120.0,
    seed: Annotated[int, typer.Option(help="The same requests for the same number.")] = 0,
    target: TargetOption = DEFAULT_TARGET,
    api_key: ApiKeyOption = None,
    tls: TlsOption = False,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send load to a server and print what its callers would feel, in percentiles.

    Without --rate a slow server is asked less often, so its times look better than callers would find
    them; with it, requests come whether the server keeps up or not.
    """
    import asyncio  # 30 ms that help should not wait for.

    from hotshoe.client import AsyncClient
    from hotshoe.client.load import BASE, Load, send
    from hotshoe.client.retry import NEVER

    async def run() -> Report:
        client = AsyncClient(target, api_key=api_key, tls=tls_of(tls, tls_ca, tls_cert, tls_key), retry=NEVER)
        async with client:
            named = [BASE if each == "base" else each for each in adapter or ()]
            load = Load(
                adapters=tuple(named or await _listed(client)),
                zipf=zipf,
                rate=rate,
                concurrent=callers,
                seconds=seconds,
                prompt_words=_range("--prompt-words", prompt_words),
                output_tokens=_range("--output-tokens", output_tokens),
                timeout_seconds=timeout,
                seed=seed,
            )
            return await send(client, load)

    report = asyncio.run(run())
    if as_json:
        print_json(_report_json(report))
    else:
        _print_report(report)
    if not report.outcomes["OK"]:
        raise typer.Exit(1)


@verb
@operator_verb
def top(
    admin: AdminClient,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Look for one interval, print, and end.")] = False,
) -> None:
    """Watch a server live: places, lines, tenants, adapters, tokens a second. Ends with Ctrl-C."""
    import time

    from rich.console import Console
    from rich.live import Live

    from hotshoe.cli.view import view

    console = Console()
    before, since = admin.status(), time.monotonic()
    if once or not console.is_terminal:
        time.sleep(every)
        console.print(view(before, admin.status(), time.monotonic() - since))
        return
    with Live(view(before, before, 1.0), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            now, at = admin.status(), time.monotonic()
            live.update(view(before, now, at - since), refresh=True)
            before, since = now, at


async def _listed(client: AsyncClient) -> list[str]:
    """The adapters that `prod` of which answers; the base where there are none."""
    from hotshoe.client.load import BASE

    return [each.adapter for each in await client.adapters() if "prod" in each.aliases] or [BASE]


def _range(flag: str, text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    try:
        return int(low), int(high or low)
    except ValueError as error:
        raise InvalidRequest(f"{flag} is {text!r}: give a number, or two as 16:64") from error


def _print_report(report: Report) -> None:
    from hotshoe.client.measures import PERCENTILES

    requests = sum(report.outcomes.values())
    outcomes = ", ".join(f"{reason} {count:,}" for reason, count in report.outcomes.most_common())
    print_table(
        f"{requests:,} requests in {report.seconds:.1f} s: {outcomes}",
        ("", "mean", *(f"p{each}" for each in PERCENTILES), "most"),
        (
            _spread("first token", report.first_token),
            _spread("between tokens", report.between_tokens),
            _spread("whole answer", report.whole),
        ),
    )
    rate = report.output_tokens / report.seconds
    typer.echo(f"{rate:,.1f} tokens/s out, {requests / report.seconds:,.2f} requests/s")
    most = ", ".join(f"{name or 'base'} {count:,}" for name, count in report.adapters.most_common(5))
    typer.echo(f"{len(report.adapters)} adapters: {most}{', ...' if len(report.adapters) > 5 else ''}")
    sys.stdout.flush()


def _spread(name: str, spread: Spread) -> list[str]:
    return [name, *(f"{each * 1000:,.1f} ms" for each in (spread.mean, *spread.percentiles, spread.most))]


def _report_json(report: Report) -> dict[str, Any]:
    from hotshoe.client.measures import PERCENTILES

    def spread(measured: Spread) -> dict[str, float]:
        percentiles = zip(PERCENTILES, measured.percentiles, strict=True)
        return {
            "count": measured.count,
            "mean_ms": measured.mean * 1000,
            **{f"p{each}_ms": value * 1000 for each, value in percentiles},
            "most_ms": measured.most * 1000,
        }

    return {
        "seconds": report.seconds,
        "outcomes": dict(report.outcomes),
        "adapters": dict(report.adapters),
        "prompt_tokens": report.prompt_tokens,
        "output_tokens": report.output_tokens,
        "first_token": spread(report.first_token),
        "between_tokens": spread(report.between_tokens),
        "whole": spread(report.whole),
    }
