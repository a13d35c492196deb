"""The verb that serves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotshoe.adapter.errors import InvalidConfig
from hotshoe.cli.verb import JsonOption, LedgerOption, RegistryOption, print_json, print_table, require, verb

if TYPE_CHECKING:
    from hotshoe.serve.planning import Plan

MIB = 1 << 20


@verb
def serve(
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="SERVE.toml", help="Settings in a file; flags count more."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="FOLDER_OR_REPO", help="The frozen base model, loaded once."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where to answer; port 0 takes a free one. Default: 127.0.0.1:50051.",
        ),
    ] = None,
    registry: RegistryOption = None,
    slots: Annotated[
        int | None,
        typer.Option(
            help="Adapters active in one step. Default: as many as answers on a CPU, 8 or 16 on a GPU."
        ),
    ] = None,
    adapter_memory_mib: Annotated[
        int | None,
        typer.Option(help="Memory for loaded adapters, in MiB. Default: a quarter of what is left."),
    ] = None,
    resident: Annotated[
        int | None, typer.Option(help="Adapters in the engine's memory at most. Default: 1024.")
    ] = None,
    max_rank: Annotated[
        int | None, typer.Option(help="The largest LoRA rank. Default: the registry's, at least 16.")
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option(help="Prompt plus answer. Default: as much as base and memory allow.")
    ] = None,
    kv_cache_mib: Annotated[
        int | None,
        typer.Option(help="Memory for the KV cache, in MiB. Default: 1024, less if there is little memory."),
    ] = None,
    sequences: Annotated[int | None, typer.Option(help="Answers in one step. Default: 64.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="The engine's compute threads (CPU). Default: 1.")
    ] = None,
    silence_seconds: Annotated[
        float | None,
        typer.Option(help="An engine silent for longer is replaced; over its longest step. Default: 60."),
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(help="How long answers may finish after SIGTERM. Default: 30.")
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(
            "--pin", metavar="ORG/NAME[@X]", help="Keep it loaded, following its alias; repeatable."
        ),
    ] = None,
    same_template: Annotated[
        bool,
        typer.Option("--same-template", help="Refuse versions trained with another chat template."),
    ] = False,
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
    check: Annotated[
        bool, typer.Option("--check", help="Only tell what it would do, and with how much memory.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Serve the base and every adapter of the registry over gRPC until SIGTERM."""
    require("vllm", "uvloop", "grpc_health", "grpc_reflection", "prometheus_client", extra="serve-cpu")
    from hotshoe.serve import start
    from hotshoe.serve.logs import logging_to_stderr
    from hotshoe.serve.settings import make_config, read_settings
    from hotshoe.serve.tls import TlsFiles

    if bool(tls_cert) != bool(tls_key) or (tls_client_ca and not tls_cert):
        raise InvalidConfig("TLS needs --tls-cert and --tls-key together: give both")
    flags: dict[str, Any] = {
        "base": base,
        "listen": listen,
        "registry": registry,
        "slots": slots,
        "adapter_memory_bytes": None if adapter_memory_mib is None else adapter_memory_mib * MIB,
        "resident": resident,
        "max_rank": max_rank,
        "context_tokens": context_tokens,
        "kv_cache_bytes": None if kv_cache_mib is None else kv_cache_mib * MIB,
        "sequences": sequences,
        "threads": threads,
        "silence_seconds": silence_seconds,
        "drain_seconds": drain_seconds,
        "pin": tuple(pin) if pin else None,
        "same_template": same_template or None,
        "tenants": tenants,
        "allow_open": allow_open or None,
        "tls": TlsFiles(tls_cert, tls_key, tls_client_ca) if tls_cert and tls_key else None,
        "metrics": metrics,
        "ledger": ledger,
        "traces": traces or None,
        "log_prompts": log_prompts or None,
    }
    given = read_settings(config) if config else {}
    given |= {name: value for name, value in flags.items() if value is not None}
    chosen = make_config(given)
    with logging_to_stderr(as_json=log_json, level=log_level):
        if check:
            _print_plan(start.check(chosen, given), as_json=as_json)
        else:
            start.serve_forever(
                chosen,
                given,
                on_ready=lambda address: _tell(address, chosen.base, as_json=as_json),
                on_progress=lambda text: typer.echo(text, err=True),
            )


def _tell(address: str, base: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"address": address})
    else:
        typer.echo(f"serving {base} on {address}")
    sys.stdout.flush()


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    config = plan.config
    if as_json:
        print_json(plan)
        return
    rows = [
        ("base", str(plan.base.base)),
        ("address", config.listen + (", TLS" if config.tls else "")),
        ("who may call", str(config.tenants) if config.tenants else "anybody who can reach it"),
        ("slots", f"{config.slots} of rank {config.max_rank}"),
        ("adapters in memory", f"{_size(config.adapter_memory_bytes)}, at most {config.resident} of them"),
        ("an adapter takes", _size(plan.adapter_bytes) + f" at rank {config.max_rank}"),
        ("KV cache", f"{_size(config.kv_cache_bytes)}, {plan.kv_tokens or 'some'} tokens"),
        ("context", f"{plan.context_tokens or 'as the base has it'} tokens"),
        ("answers at once", str(config.sequences)),
        ("memory left here", _size(plan.memory_bytes)),
    ]
    print_table("what serving would do", ("what", "value"), rows)
    if plan.forecasts:
        found = [(each.version, str(each.rank), each.problem or "can be served") for each in plan.forecasts]
        print_table("what the registry has promoted", ("version", "rank", "here"), found)


def _size(count: int | None) -> str:
    if count is None:
        return "unknown"
    return f"{count / MIB:,.1f} MiB" if count < 1 << 30 else f"{count / (1 << 30):,.2f} GiB"
