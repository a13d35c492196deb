"""Verbs around a server: serve, generate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hotshoe.adapter.errors import InvalidConfig
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
from hotshoe.cli.verb import JsonOption, LedgerOption, RegistryOption, print_json, printable, verb


@verb
def serve(
    base: Annotated[
        str,
        typer.Option("--base", metavar="FOLDER_OR_REPO", help="The frozen base model, loaded once."),
    ],
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where to answer; port 0 takes a free one.")
    ] = "127.0.0.1:50051",
    registry: RegistryOption = None,
    slots: Annotated[int, typer.Option(help="Adapters active in one step.")] = 8,
    resident: Annotated[int, typer.Option(help="Adapters in the engine's memory.")] = 32,
    max_rank: Annotated[int, typer.Option(help="The largest LoRA rank.")] = 16,
    context_tokens: Annotated[
        int | None, typer.Option(help="Prompt plus answer. Default: as much as base and memory allow.")
    ] = None,
    kv_cache_mib: Annotated[int, typer.Option(help="Memory for the KV cache, in MiB.")] = 1024,
    sequences: Annotated[int, typer.Option(help="Answers in one step.")] = 64,
    threads: Annotated[int, typer.Option(help="The engine's compute threads (CPU).")] = 1,
    drain_seconds: Annotated[float, typer.Option(help="How long answers may finish after SIGTERM.")] = 30.0,
    tenants: Annotated[
        Path | None,
        typer.Option("--tenants", metavar="FILE", help="Who may call, with what. Default: anybody."),
    ] = None,
    allow_open: Annotated[
        bool, typer.Option("--allow-open", help="Listen beyond this machine without asking who calls.")
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", metavar="FILE", help="Speak TLS with this certificate (PEM).")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="The certificate's private key (PEM).")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option("--tls-client-ca", metavar="FILE", help="Ask clients for a certificate of this CA."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="HOST:PORT", help="Where Prometheus may ask. Default: nowhere."),
    ] = None,
    ledger: LedgerOption = None,
    traces: Annotated[
        bool,
        typer.Option("--traces", help="Send OpenTelemetry spans where OTEL_EXPORTER_OTLP_ENDPOINT says."),
    ] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON, one object a line.")] = False,
    log_level: Annotated[
        str, typer.Option(help="debug, info (tells of every request), warning or error.")
    ] = "warning",
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Put prompts into the log, at level info.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve the base and every adapter of the registry over gRPC until SIGTERM."""
    from hotshoe.serve.config import ServeConfig
    from hotshoe.serve.logs import logging_to_stderr
    from hotshoe.serve.start import serve_forever
    from hotshoe.serve.tls import TlsFiles

    if bool(tls_cert) != bool(tls_key) or (tls_client_ca and not tls_cert):
        raise InvalidConfig("TLS needs --tls-cert and --tls-key together: give both")
    config = ServeConfig(
        base=base,
        listen=listen,
        registry=registry,
        slots=slots,
        resident=max(resident, slots),
        max_rank=max_rank,
        context_tokens=context_tokens,
        kv_cache_bytes=kv_cache_mib << 20,
        sequences=sequences,
        threads=threads,
        drain_seconds=drain_seconds,
        tenants=tenants,
        allow_open=allow_open,
        tls=TlsFiles(tls_cert, tls_key, tls_client_ca) if tls_cert and tls_key else None,
        metrics=metrics,
        ledger=ledger,
        traces=traces,
        log_prompts=log_prompts,
    )

    def tell(address: str) -> None:
        if as_json:
            print_json({"address": address})
        else:
            typer.echo(f"serving {base} on {address}")
        sys.stdout.flush()

    with logging_to_stderr(as_json=log_json, level=log_level):
        serve_forever(config, on_ready=tell)


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
