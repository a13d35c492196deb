"""The use case: prompts that fit, adapters held as long as they are used, engine work that ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from support.recorder import Recorder, Shelves, until_idle, version

from hotshoe.adapter.errors import EngineUnavailable, InvalidRequest, PromptTooLong
from hotshoe.adapter.manifest import Base
from hotshoe.adapter.reference import AdapterRef
from hotshoe.adapter.version import Version
from hotshoe.serve.admission import Admission
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.engine import EngineAdapter, EngineChunk
from hotshoe.serve.fairness import FairQueue
from hotshoe.serve.generation import Caller, Generation
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.prompts import Prompts
from hotshoe.serve.tenants import Tenant
from hotshoe.wire.values import (
    Chat,
    Completion,
    Delta,
    Finished,
    FinishReason,
    GenerateRequest,
    Message,
    Prompt,
    Resolved,
    Sampling,
    Text,
    Tokens,
)

SUPPORT = version("support", 7)
REF = AdapterRef.parse("acme/support@prod")


class OneVersion:
    """A catalog that knows one version."""

    async def resolve(self, ref: AdapterRef, *, session: str | None = None) -> Version:
        return SUPPORT


class Parts:
    def __init__(self, engine: Recorder | None = None, places: int = 8) -> None:
        self.engine = engine or Recorder()
        self.pool = AdapterPool(self.engine, Shelves(), capacity=2)
        self.admission = Admission(FairQueue(places, 2))
        self.generation = Generation(self.engine, OneVersion(), self.pool, self.admission)

    async def complete(
        self, prompt: Prompt, *, adapter: AdapterRef | None = None, sampling: Sampling | None = None
    ) -> Completion:
        request = GenerateRequest(prompt, adapter, sampling or Sampling())
        return await self.generation.complete(request, request_id="r")


async def test_a_stream_is_who_answers_then_pieces_then_the_end() -> None:
    parts = Parts()
    stream = parts.generation.stream(GenerateRequest(Text("hi"), REF), request_id="r")
    events = [event async for piece in stream for event in piece]
    assert isinstance(events[0], Resolved)
    assert str(events[0]) == "acme/support@v7"
    assert (events[0].commit, events[0].manifest_sha256) == (SUPPORT.commit, SUPPORT.manifest_sha256)
    assert all(isinstance(event, Delta) for event in events[1:-1])
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text.partition(" ")[2] == "acme/support: hi"
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.usage.prompt_tokens, end.usage.output_tokens) == (2, len(text))
    assert end.usage.first_token_ms >= end.usage.load_ms > 0


async def test_the_base_answers_where_no_adapter_is_named() -> None:
    answer = await Parts().complete(Text("hi"))
    assert (answer.text, str(answer.resolved)) == ("base: hi", "base")
    assert answer.usage.load_ms == 0


@pytest.mark.parametrize(
    "prompt", [Text("hi"), Tokens(tuple(b"hi")), Chat((Message("user", "hi"),))], ids=["text", "ids", "chat"]
)
async def test_each_form_of_a_prompt_is_answered(prompt: Prompt) -> None:
    assert (await Parts().complete(prompt)).text == "base: hi"


async def test_a_long_prompt_is_encoded_beside_the_event_loop() -> None:
    engine = Recorder(context_tokens=50_000)
    answer = await Parts(engine).complete(Text("x" * 10_000), sampling=Sampling(max_tokens=4))
    assert answer.usage.prompt_tokens == 10_000


@pytest.mark.parametrize(
    ("length", "max_tokens", "answered"),
    [(2, None, 8), (2, 3, 3), (2047, None, 1), (2040, 100, 8), (2047, 100, 1)],
)
async def test_the_answer_is_as_long_as_asked_for_and_as_the_context_allows(
    length: int, max_tokens: int | None, answered: int
) -> None:
    answer = await Parts().complete(Tokens((65,) * length), sampling=Sampling(max_tokens=max_tokens))
    assert answer.usage.output_tokens == answered


async def test_an_answer_that_was_cut_says_length() -> None:
    answer = await Parts().complete(Text("hi"), sampling=Sampling(max_tokens=3))
    assert (answer.text, answer.finish_reason) == ("bas", FinishReason.LENGTH)


@pytest.mark.parametrize("length", [2048, 5000])
async def test_a_prompt_that_fills_the_context_is_refused_with_both_lengths(length: int) -> None:
    with pytest.raises(PromptTooLong, match=f"has {length} tokens, and the context holds 2048"):
        await Parts().complete(Text("x" * length))


@pytest.mark.parametrize(("ids", "wrong"), [((1, 256), 256), ((999_999, 1), 999_999), ((1, -3, 2), -3)])
async def test_a_token_outside_of_the_vocabulary_is_refused_by_name(ids: tuple[int, ...], wrong: int) -> None:
    with pytest.raises(InvalidRequest, match=f"token id {wrong} is not in the base's vocabulary of 256"):
        await Parts().complete(Tokens(ids))


async def test_more_tokens_than_the_context_has_left_cannot_be_demanded() -> None:
    with pytest.raises(InvalidRequest, match="min_tokens 20 is over the 8 tokens"):
        await Parts().complete(Tokens((65,) * 2040), sampling=Sampling(min_tokens=20))


async def test_a_refused_prompt_loads_no_adapter() -> None:
    parts = Parts()
    with pytest.raises(PromptTooLong):
        await parts.complete(Text("x" * 5000), adapter=REF)
    assert parts.engine.added == []


class Unasked(EchoEngine):
    """Fails a test that has it tokenize."""

    def encode_text(self, text: str) -> tuple[int, ...]:
        raise AssertionError("it was tokenized")

    def encode_chat(self, chat: Chat) -> tuple[int, ...]:
        raise AssertionError("it was tokenized")


@pytest.mark.parametrize("prompt", [Text("x" * 4097), Chat((Message("user", "x" * 4097),))])
async def test_a_prompt_that_cannot_fit_is_refused_without_being_tokenized(prompt: Prompt) -> None:
    engine = Unasked(Base("echo", "", "0" * 64), context_tokens=2048, longest_token=2)
    with pytest.raises(PromptTooLong, match="has 4097 characters, and the context holds 2048 tokens of 2"):
        await Prompts(engine).encode(prompt)


async def test_closing_a_stream_ends_the_work_and_gives_the_adapter_back() -> None:
    parts = Parts()
    stream = parts.generation.stream(GenerateRequest(Text("hi"), REF), request_id="r")
    async with contextlib.aclosing(stream):
        await anext(stream)
        await anext(stream)
        assert parts.engine.running == {"r"}
        assert parts.pool.leases(SUPPORT) == 1
    assert parts.engine.running == set()
    assert parts.pool.leases(SUPPORT) == 0


async def test_cancelling_an_answer_ends_the_work_and_gives_the_adapter_back() -> None:
    engine = Recorder(token_seconds=0.01)
    parts = Parts(engine)
    task = asyncio.create_task(parts.complete(Text("hi"), adapter=REF))
    await until_idle()
    assert engine.running
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.running == set()
    assert parts.pool.leases(SUPPORT) == 0


async def test_an_engine_that_dies_during_an_answer_gives_the_adapter_back() -> None:
    parts = Parts()
    stream = parts.generation.stream(GenerateRequest(Text("hi"), REF), request_id="r")
    await anext(stream)
    parts.engine.die()
    with pytest.raises(EngineUnavailable) as raised:
        await anext(stream)
    assert parts.pool.leases(SUPPORT) == 0
    assert raised.value.begun
    assert raised.value.details.items() >= {"adapter": "acme/support", "version": "v7"}.items()


class Line:
    """Requests behind one that has the only place. order: the names of those that were answered."""

    def __init__(self) -> None:
        self.parts = Parts(places=1)
        self.order: list[str] = []

    async def answer(self, *requests: tuple[str, int, Tenant]) -> None:
        """Have those of (name, priority, tenant) stand in line in this order, then be answered."""
        first = self.parts.generation.stream(GenerateRequest(Text("hi")), request_id="first")
        async with contextlib.aclosing(first), asyncio.TaskGroup() as group:
            await anext(first)
            for request in requests:
                group.create_task(self._ask(*request))
            await until_idle()
            assert self.parts.admission.waiting == len(requests)
            await first.aclose()

    async def _ask(self, name: str, priority: int, tenant: Tenant) -> None:
        request = GenerateRequest(Text("hi"), priority=priority)
        await self.parts.generation.complete(request, request_id=name, caller=Caller(tenant=tenant))
        self.order.append(name)


async def test_a_tenants_urgent_request_is_answered_before_those_that_came_first() -> None:
    line, acme = Line(), Tenant("acme")
    await line.answer(("usual", 0, acme), ("low", -1, acme), ("high", 1, acme))
    assert line.order == ["high", "usual", "low"]


async def test_of_a_lines_answers_a_heavy_tenant_gets_its_part() -> None:
    line = Line()
    light, heavy = Tenant("light"), Tenant("heavy", weight=3)
    await line.answer(*(("light", 0, light) for _ in range(8)), *(("heavy", 0, heavy) for _ in range(8)))
    assert line.order[:8].count("heavy") == 6


class Told(Recorder):
    """Notes down who it is told asks."""

    def __init__(self) -> None:
        super().__init__()
        self.tenants: list[str] = []

    def generate(self, *arguments: Any, tenant: str = "", **named: Any) -> AsyncGenerator[EngineChunk, None]:
        self.tenants.append(tenant)
        return super().generate(*arguments, tenant=tenant, **named)


async def test_the_engine_is_told_whose_request_it_is() -> None:
    told = Told()
    parts = Parts(told)
    stream = parts.generation.stream(
        GenerateRequest(Text("hi"), None), request_id="r", caller=Caller(tenant=Tenant(name="acme"))
    )
    async for _ in stream:
        pass
    assert told.tenants == ["acme"]


class Silent(Recorder):
    """Ends its answers without an end."""

    async def generate(
        self,
        request_id: str,
        prompt: tuple[int, ...],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        *,
        tenant: str = "",
    ) -> AsyncGenerator[EngineChunk, None]:
        yield EngineChunk("ba", (98, 97), None, len(prompt), 0)


async def test_an_answer_without_an_end_is_an_error_and_not_a_short_answer() -> None:
    with pytest.raises(EngineUnavailable, match="before its end"):
        await Parts(Silent()).complete(Text("hi"))
