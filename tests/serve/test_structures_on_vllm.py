"""A structure costs who asks for it, and nobody else: on the real engine, behind a server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from support.engines import GREEDY, tokens
from support.grammars import AMBIGUOUS, ENDLESS

from hotshoe.adapter.errors import Exhausted
from hotshoe.registry import open_registry
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.server import running
from hotshoe.serve.structures.limits import PROCESSES
from hotshoe.v1 import inference_pb2 as pb
from hotshoe.v1 import inference_pb2_grpc
from hotshoe.wire.structure import Grammar
from hotshoe.wire.values import Sampling

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

# Ten seconds of the processor's time that a structure gets only where nobody else wants it take minutes.
pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

PROMPT = "Dear support, my invoice"
TOKENS_MEANWHILE = 20
"""Of somebody else, while a structure is worked at for half a second of the processor's time or more. A step
that waits for it has one token for everybody, so others get two, however fast or busy the machine is."""

LOOP_SECONDS = 0.05
"""Of the processor's time, in one go, that a schema may take of the server's event loop. It was 0.2."""


class Asker:
    """Calls a server on the session's engine."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: inference_pb2_grpc.InferenceAsyncStub = inference_pb2_grpc.InferenceStub(channel)

    async def ask(self, sampling: pb.Sampling) -> tuple[grpc.StatusCode, str]:
        """The code and the message that a request ends with."""
        generation = pb.Generation(text=PROMPT, sampling=sampling)
        call = self._stub.Generate(pb.GenerateRequest(generation=generation))
        return await call.code(), await call.details() or ""

    async def times(self, sampling: pb.Sampling) -> tuple[list[float], grpc.StatusCode, str]:
        """When a stream began, told of something and ended; the code and the message that it ended with."""
        generation = pb.Generation(text=PROMPT, sampling=sampling)
        times = [time.monotonic()]
        call = self._stub.StreamGenerate(pb.StreamGenerateRequest(generation=generation))
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                times.append(time.monotonic())
        return [*times, time.monotonic()], await call.code(), await call.details() or ""

    async def text(self, sampling: pb.Sampling) -> str:
        """The answer."""
        generation = pb.Generation(text=PROMPT, sampling=sampling)
        answered = await self._stub.Generate(pb.GenerateRequest(generation=generation))
        return answered.answers[0].text


@pytest.fixture(scope="module")
async def asker(tiny_engine: VllmEngine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Asker]:
    folder: Path = tmp_path_factory.mktemp("structures")
    config = ServeConfig(base="tiny", listen="127.0.0.1:0", slots=4, resident=8)
    with open_registry(folder / "registry", cache=folder / "cache") as registry:
        async with (
            running(config, tiny_engine, registry) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            asker = Asker(channel)
            # The first structure of an engine waits for what they all need.
            assert (await asker.ask(pb.Sampling(grammar='root ::= "a"')))[0] is grpc.StatusCode.OK
            yield asker


@contextlib.asynccontextmanager
async def bystander(engine: VllmEngine) -> AsyncIterator[list[float]]:
    """Somebody else's answers, one after the other, until the block ends; when each of their tokens came."""
    times: list[float] = []

    async def go_on() -> None:
        while True:
            stream = engine.generate(f"bystander-{len(times)}", engine.encode_text(PROMPT), GREEDY, None)
            async with contextlib.aclosing(stream):
                async for chunk in stream:
                    times.extend([time.monotonic()] * len(chunk.token_ids))

    task = asyncio.create_task(go_on())
    try:
        yield times
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_an_answer_that_takes_ever_longer_stalls_nobody_else_and_ends_alone(
    tiny_engine: VllmEngine, asker: Asker
) -> None:
    (letter,) = set(tiny_engine.encode_text("aaaa"))
    # Only the letter, and no end: each token is of the ambiguous part.
    hostile = pb.Sampling(max_tokens=400, grammar=AMBIGUOUS, ignore_eos=True, logit_bias={letter: 100.0})
    short = pb.Sampling(max_tokens=20, grammar=AMBIGUOUS, ignore_eos=True, logit_bias={letter: 100.0})
    before = await tokens(tiny_engine, PROMPT)
    async with bystander(tiny_engine) as others:
        beside = asyncio.ensure_future(asker.ask(short))
        times, code, said = await asker.times(hostile)
    assert (code, "to follow" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True), said
    began, ended = max(itertools.pairwise(times), key=lambda pair: pair[1] - pair[0])
    assert sum(began < at < ended for at in others) >= TOKENS_MEANWHILE
    assert [code for code, _ in (await beside, await asker.ask(short))] == [grpc.StatusCode.OK] * 2
    assert await tokens(tiny_engine, PROMPT) == before


async def test_a_grammar_that_takes_minutes_to_compile_delays_no_other_structure(
    tiny_engine: VllmEngine, asker: Asker
) -> None:
    async with bystander(tiny_engine) as others:
        hostile = asyncio.ensure_future(asker.ask(pb.Sampling(max_tokens=4, grammar=ENDLESS)))
        await asyncio.sleep(0.2)
        already = len(others)
        sound = await asker.ask(pb.Sampling(max_tokens=40, grammar='root ::= "fine" | "good"'))
        assert not hostile.done()
        code, said = await hostile
        assert len(others) - already >= TOKENS_MEANWHILE
    assert sound[0] is grpc.StatusCode.OK
    assert (code, "to compile" in said) == (grpc.StatusCode.INVALID_ARGUMENT, True), said


async def test_a_tenant_that_floods_with_slow_structures_keeps_no_other_from_having_theirs(
    tiny_engine: VllmEngine,
) -> None:
    numbers = itertools.count()

    async def answer(tenant: str, grammar: str) -> str:
        sampling = Sampling(max_tokens=12, temperature=0, structure=Grammar(grammar))
        prompt = tiny_engine.encode_text(PROMPT)
        stream = tiny_engine.generate(f"{tenant}-{next(numbers)}", prompt, sampling, None, tenant=tenant)
        return "".join([chunk.text async for chunk in stream])

    flood = [
        asyncio.ensure_future(answer("acme", f'{ENDLESS}\nx ::= "{"b" * n}"'))
        for n in range(1, PROCESSES + 1)
    ]
    refused, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
    assert {type(each.exception()) for each in refused} == {Exhausted}
    assert await answer("globex", 'root ::= "fine" | "good"') in {"fine", "good"}
    assert sum(not each.done() for each in flood) > PROCESSES // 4
    for each in flood:
        each.cancel()
    await asyncio.gather(*flood, return_exceptions=True)


async def test_an_answer_whose_structure_is_gone_before_it_begins_may_be_asked_for_again(
    tiny_engine: VllmEngine,
) -> None:
    from vllm.inputs.engine import tokens_input

    from hotshoe.serve.structures.judging import wanted
    from hotshoe.serve.vllm_params import chunks_of, params_of

    sampling = Sampling(max_tokens=4, n=2, structure=Grammar('root ::= "never judged"'))
    params = params_of(sampling, {}, wanted(Grammar('root ::= "never judged"'), "acme"))
    prompt = tokens_input(list(tiny_engine.encode_text(PROMPT)))
    outputs = [each async for each in tiny_engine._llm.generate(prompt, params, "gone")]
    with pytest.raises(Exhausted):
        [chunk for output in outputs for chunk in chunks_of(output, sampling)]


async def test_a_large_schema_leaves_the_event_loop_to_the_others(asker: Asker) -> None:
    names = [f"field_{n:03}_{'x' * 20}" for n in range(330)]
    kinds = ("string", "integer", "array", "boolean")
    properties = {
        name: {"type": kinds[n % 4], "description": "what it is for, told at length" * 3}
        for n, name in enumerate(names)
    }
    schema = json.dumps({"type": "object", "properties": properties, "required": names})
    assert 50_000 < len(schema) < 64 << 10
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    code, said = await asker.ask(pb.Sampling(max_tokens=4, json_schema=schema))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert code is grpc.StatusCode.OK, said
    assert longest < LOOP_SECONDS


async def test_answers_with_structures_keep_to_their_own_beside_each_other(asker: Asker) -> None:
    """Several structures at once, several answers of each: none takes another's mask."""
    grammars = [f'root ::= "{letter}" root | "{letter}."' for letter in "abcd"]
    calls = [
        asker.text(pb.Sampling(max_tokens=24, grammar=grammar, temperature=1.0, seed=seed))
        for seed in range(4)
        for grammar in grammars
    ]
    found = await asyncio.gather(*calls)
    for n, text in enumerate(found):
        letter = "abcd"[n % 4]
        assert text.strip(".") == letter * len(text.strip("."))
        assert text.startswith(letter)
