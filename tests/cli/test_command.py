"""The `hotshoe` command as a process: what it imports, what it streams, how a server ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from support import echo_main
from support.adapters import make_adapter
from support.lora import BASE_CONFIG

from hotshoe.adapter.errors import Draining, HotshoeError
from hotshoe.adapter.reference import AdapterName
from hotshoe.cli.main import VERBS
from hotshoe.client import Client
from hotshoe.client.retry import NEVER
from hotshoe.registry import fetch_base, open_registry
from hotshoe.wire.values import Delta, Finished

HOTSHOE = str(Path(sys.executable).with_name("hotshoe"))
SUPPORT = AdapterName("acme", "support")

Start = Callable[[float], tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a server process with the echo engine: what a token takes -> (process, address)."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(BASE_CONFIG))
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        for seed in (1, 2):
            folder = make_adapter(tmp_path / f"adapter-{seed}", seed)
            registry.publish(folder, SUPPORT, base=fetch_base(str(base)))
        registry.promote(SUPPORT, "prod", 1)
    started: list[subprocess.Popen[str]] = []

    def begin(token_seconds: float) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, echo_main.__file__, str(tmp_path), str(token_seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        address = _of(process.stdout).readline().strip()
        assert address, _of(process.stderr).read()
        return process, address

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def _of(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def hotshoe(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HOTSHOE, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["list", "--registry", "{}"]])
def test_help_and_queries_import_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys; from hotshoe.cli.main import app\n"
        f"try: app({[each.format(tmp_path) for each in arguments]!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'vllm', 'transformers', 'trl', 'peft', 'datasets', 'grpc', 'huggingface_hub'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "HEAVY []"


def test_the_help_for_all_gives_each_verb_a_line_and_imports_none() -> None:
    code = (
        "import sys; from hotshoe.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(*(name for name in sys.modules if name.startswith('hotshoe.cli.')))"
    )
    narrow = {**os.environ, "COLUMNS": "80"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=narrow, capture_output=True, text=True, check=True
    )
    *shown, imported = map(str.strip, result.stdout.splitlines())
    assert set(imported.split()) == {"hotshoe.cli.main", "hotshoe.cli.help"}
    for name, (_, summary) in (each for verbs in VERBS.values() for each in verbs.items()):
        assert any(re.fullmatch(rf"{name} +{re.escape(summary)}", line) for line in shown), name


def test_a_query_imports_no_other_verb_and_nothing_that_publishing_needs(tmp_path: Path) -> None:
    open_registry(tmp_path).close()
    code = (
        "import sys; from hotshoe.cli.main import app\n"
        f"try: app(['list', '--registry', {str(tmp_path)!r}])\n"
        "except SystemExit: pass\n"
        "print(*(name for name in sys.modules if name.startswith('hotshoe.cli.')))\n"
        "print({'filelock', 'hotshoe.registry.inspect', 'importlib.metadata'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *_, verbs, slow = result.stdout.splitlines()
    assert not {f"hotshoe.cli.{each}" for each in ("serving", "server", "training", "versions")} & set(
        verbs.split()
    )
    assert slow == "set()"


def test_generate_streams_the_text_and_says_aside_who_answered(start: Start) -> None:
    _, address = start(0)
    result = hotshoe("generate", "--target", address, "--adapter", "acme/support", "hi")
    assert result.returncode == 0
    assert result.stdout.endswith(" acme/support: hi\n")
    assert "[acme/support@v1]" in result.stderr
    assert "2 tokens in" in result.stderr


def test_generate_reads_standard_input_and_prints_json(start: Start) -> None:
    _, address = start(0)
    result = hotshoe("generate", "--target", address, "--json", "-", stdin="from a pipe")
    answer = json.loads(result.stdout)
    assert (answer["text"], answer["finish_reason"]) == ("base: from a pipe", "stop")
    assert answer["usage"]["prompt_tokens"] == len("from a pipe")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_streams_finish_and_refuses_new_ones(start: Start, number: signal.Signals) -> None:
    process, address = start(0.05)
    with Client(address, timeout_seconds=20, retry=NEVER) as client:
        stream = client.stream("x" * 30, adapter="acme/support")
        events = [next(stream), next(stream)]
        process.send_signal(number)
        rest = threading.Thread(target=lambda: events.extend(stream))
        rest.start()
        time.sleep(0.3)
        with pytest.raises(Draining, match="call another one"):
            client.generate("hi", timeout_seconds=5)
        rest.join()
    assert isinstance(events[-1], Finished)
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text.endswith(" acme/support: " + "x" * 30)
    assert process.wait(10) == 0
    assert "Traceback" not in _of(process.stderr).read()


async def test_a_second_server_on_the_port_is_refused_before_it_loads_anything(start: Start) -> None:
    _, address = start(0)
    began = asyncio.get_running_loop().time()
    result = hotshoe("serve", "--base", "no/such-base", "--listen", address, "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["reason"] == "ADDRESS_IN_USE"
    assert asyncio.get_running_loop().time() - began < 5


def test_a_server_that_starts_tells_step_by_step_what_it_does(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(BASE_CONFIG))
    command = [HOTSHOE, "serve", "--base", str(base), "--registry", str(tmp_path / "registry")]
    command += ["--listen", "127.0.0.1:0", "--slots", "3"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        first, second, third = (_of(server.stderr).readline() for _ in range(3))
        server.kill()  # There are no weights to start an engine with.
    assert first == f"fetching {base}\n"
    assert second.startswith("base@local ")
    assert "3 slots of rank 16" in second
    assert "0 of 0 promoted versions can be served" in second
    assert third == "starting the engine\n"


def test_a_reader_that_goes_away_is_no_crash(tmp_path: Path) -> None:
    command = f"{HOTSHOE} show --help | head -1; {HOTSHOE} list --registry {tmp_path} | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr


def test_a_second_signal_ends_the_server_although_answers_are_under_way(start: Start) -> None:
    server, address = start(0.1)
    with Client(address, retry=NEVER) as client:
        stream = client.stream("x" * 200)
        next(stream)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert server.poll() is None
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=3) == 0
        with pytest.raises(HotshoeError):
            list(stream)
