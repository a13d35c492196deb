"""The verb that asks."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from hotshoe.cli.connecting import (
    DEFAULT_TARGET,
    ApiKeyOption,
    TargetOption,
    TlsCaOption,
    TlsCertOption,
    TlsKeyOption,
    TlsOption,
    tls_of,
)
from hotshoe.cli.verb import JsonOption, print_json, printable, verb


@verb
def generate(
    prompt: Annotated[str, typer.Argument(help="What to say; - reads it from standard input.")],
    target: TargetOption = DEFAULT_TARGET,
    adapter: Annotated[
        str | None,
        typer.Option("--adapter", metavar="ORG/NAME[@SELECTOR]", help="Default: the base alone."),
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="A system message before the prompt.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Take the prompt as plain text, not as a turn in a chat.")
    ] = False,
    max_tokens: Annotated[int | None, typer.Option(help="Output tokens at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy. Default: the base's own.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Default: the base's own.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends the answer.")] = None,
    session: Annotated[
        str, typer.Option(help="Stay on one side of an alias that splits between versions.")
    ] = "",
    priority: Annotated[int, typer.Option(help="Order among your own requests in line, more first.")] = 0,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait for the whole answer.")] = None,
    api_key: ApiKeyOption = None,
    tls: TlsOption = False,
    tls_ca: TlsCaOption = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stream an answer to the terminal; which version gave it goes to standard error."""
    from hotshoe.client import Client
    from hotshoe.wire.values import Chat, Message, Prompt, Sampling, Text

    said = sys.stdin.read() if prompt == "-" else prompt
    turns = ([Message("system", system)] if system else []) + [Message("user", said)]
    asked: Prompt = Text(said) if raw else Chat(tuple(turns))
    sampling = Sampling(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=tuple(stop or ())
    )
    arguments: dict[str, Any] = {
        "adapter": adapter,
        "sampling": sampling,
        "session": session,
        "priority": priority,
        "timeout_seconds": timeout,
    }
    with Client(target, api_key=api_key, tls=tls_of(tls, tls_ca, tls_cert, tls_key)) as client:
        if as_json:
            print_json(_completion_json(client.generate(asked, **arguments)))
        else:
            _print_stream(client.stream(asked, **arguments))


def _print_stream(events: Any) -> None:
    from hotshoe.wire.values import Delta, Finished, Resolved

    for event in events:
        match event:
            case Resolved():
                typer.echo(f"[{event}]", err=True)
            case Delta(text):
                typer.echo(printable(text) if sys.stdout.isatty() else text, nl=False)
                sys.stdout.flush()
            case Finished(reason, usage):
                typer.echo()
                typer.echo(
                    f"[{reason.value}; {usage.prompt_tokens} tokens in, {usage.output_tokens} out]", err=True
                )


def _completion_json(completion: Any) -> dict[str, Any]:
    resolved, usage = completion.resolved, completion.usage
    return {
        "text": completion.text,
        "adapter": resolved.adapter,
        "version": resolved.version,
        "commit": resolved.commit,
        "manifest_sha256": resolved.manifest_sha256,
        "base": resolved.base,
        "finish_reason": completion.finish_reason.value,
        "usage": usage,
    }
