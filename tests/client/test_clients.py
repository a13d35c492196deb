"""Both clients against a real server, and against none."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import pytest
from support.serving import Served, echo_server

from hotshoe.adapter.errors import (
    AdapterNotFound,
    AliasNotFound,
    DeadlineExceeded,
    EmptyPrompt,
    InvalidReference,
    InvalidRequest,
    PromptTooLong,
    Unavailable,
)
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.client import AsyncClient, Client
from hotshoe.client.retry import NEVER
from hotshoe.wire.values import (
    AdapterSummary,
    Chat,
    Completion,
    Delta,
    Event,
    Finished,
    FinishReason,
    Message,
    Resolved,
    Sampling,
    Text,
    Tokens,
)

SLOW_SECONDS = 0.05


class Caller(Protocol):
    """What both clients can do, awaited."""

    async def generate(self, prompt: Any, **options: Any) -> Completion: ...

    async def stream(self, prompt: Any, *, take: int | None = None, **options: Any) -> list[Event]: ...

    async def adapters(self, org: str = "") -> list[AdapterSummary]: ...

    async def count_tokens(self, prompt: Any) -> int: ...


class Awaiting:
    """The asynchronous client."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.adapters = client.adapters
        self.count_tokens = client.count_tokens

    async def generate(self, prompt: Any, **options: Any) -> Completion:
        return await self._client.generate(prompt, **options)

    async def stream(self, prompt: Any, *, take: int | None = None, **options: Any) -> list[Event]:
        events: list[Event] = []
        async with contextlib.aclosing(self._client.stream(prompt, **options)) as stream:
            async for event in stream:
                events.append(event)
                if len(events) == take:
                    break
        return events


class Blocking:
    """The blocking client, in threads."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def generate(self, prompt: Any, **options: Any) -> Completion:
        return await asyncio.to_thread(self._client.generate, prompt, **options)

    async def count_tokens(self, prompt: Any) -> int:
        return await asyncio.to_thread(self._client.count_tokens, prompt)

    async def adapters(self, org: str = "") -> list[AdapterSummary]:
        return await asyncio.to_thread(self._client.adapters, org)

    async def stream(self, prompt: Any, *, take: int | None = None, **options: Any) -> list[Event]:
        def collect() -> list[Event]:
            with contextlib.closing(self._client.stream(prompt, **options)) as stream:
                return list(itertools.islice(stream, take))

        return await asyncio.to_thread(collect)


@contextlib.asynccontextmanager
async def connected(kind: str, target: str, **options: Any) -> AsyncIterator[Caller]:
    if kind == "async":
        async with AsyncClient(target, **options) as awaiting:
            yield Awaiting(awaiting)
    else:
        with Client(target, **options) as blocking:
            yield Blocking(blocking)


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with echo_server(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="module")
async def slow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with echo_server(tmp_path_factory.mktemp("slow"), token_seconds=SLOW_SECONDS) as server:
        yield server


@pytest.fixture(params=["async", "blocking"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(kind: str, served: Served) -> AsyncIterator[Caller]:
    async with connected(kind, served.address) as caller:
        yield caller


async def test_a_bare_string_is_a_users_turn(client: Caller) -> None:
    answer = await client.generate("hi")
    assert (answer.text, answer.finish_reason) == ("base: hi", FinishReason.STOP)
    assert str(answer.resolved) == "base"


@pytest.mark.parametrize(
    "prompt",
    [Text("hi"), Tokens(tuple(b"hi")), Chat((Message("system", "hi"),))],
    ids=["text", "ids", "chat"],
)
async def test_each_form_of_a_prompt_is_answered(client: Caller, prompt: Any) -> None:
    assert (await client.generate(prompt)).text == "base: hi"


@pytest.mark.parametrize(
    "adapter", ["acme/support", AdapterRef(AdapterName("acme", "support"))], ids=["text", "reference"]
)
async def test_an_adapter_is_named_by_text_or_by_a_reference(client: Caller, adapter: Any) -> None:
    answer = await client.generate("hi", adapter=adapter)
    assert answer.text.endswith("acme/support: hi")
    assert str(answer.resolved) == "acme/support@v1"


async def test_a_stream_is_the_same_answer_in_pieces(client: Caller) -> None:
    events = await client.stream("hi", adapter="acme/support@v2")
    assert isinstance(events[0], Resolved)
    assert isinstance(events[-1], Finished)
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert text == (await client.generate("hi", adapter="acme/support@v2")).text


async def test_sampling_reaches_the_engine(client: Caller) -> None:
    answer = await client.generate("hello", sampling=Sampling(stop=("l",)))
    assert (answer.text, answer.finish_reason) == ("base: he", FinishReason.STOP)


async def test_tokens_are_counted(client: Caller) -> None:
    assert await client.count_tokens("hello") == 5


async def test_adapters_are_listed_across_pages(client: Caller) -> None:
    assert [each.adapter for each in await client.adapters()] == ["acme/support", "globex/legal"]
    assert [each.adapter for each in await client.adapters("globex")] == ["globex/legal"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c: c.generate("hi", adapter="nonsense"), InvalidReference),
        (lambda c: c.generate("hi", adapter="acme/nobody"), AdapterNotFound),
        (lambda c: c.generate("hi", adapter="acme/support@canary"), AliasNotFound),
        (lambda c: c.stream("hi", adapter="acme/nobody"), AdapterNotFound),
        (lambda c: c.generate(""), EmptyPrompt),
        (lambda c: c.generate(Tokens((300,))), InvalidRequest),
        (lambda c: c.generate("x" * 5000), PromptTooLong),
    ],
)
async def test_an_error_is_of_the_class_that_the_server_raised(
    client: Caller, call: Callable[[Caller], Coroutine[Any, Any, Any]], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        await call(client)
    assert type(raised.value) is error


async def test_an_answer_that_takes_too_long_is_given_up_on_both_sides(kind: str, slow: Served) -> None:
    async with connected(kind, slow.address, timeout_seconds=0.3) as client:
        with pytest.raises(DeadlineExceeded, match="within the time"):
            await client.generate("x" * 200)
        with pytest.raises(DeadlineExceeded):
            await client.stream("x" * 200, timeout_seconds=0.3)
        answer = await client.generate("hi", timeout_seconds=5)
        assert answer.text == "base: hi"
    await no_work_is_left(slow)


async def test_a_time_of_zero_is_over_at_once(kind: str, slow: Served) -> None:
    async with connected(kind, slow.address) as client:
        with pytest.raises(DeadlineExceeded):
            await client.generate("hi", timeout_seconds=0)


async def test_closing_a_stream_early_ends_the_work_on_the_server(kind: str, slow: Served) -> None:
    async with connected(kind, slow.address) as client:
        events = await client.stream("x" * 500, take=3)
        assert len(events) == 3
        await no_work_is_left(slow)


async def test_a_target_where_nothing_runs_is_named_with_what_to_do(kind: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{free.getsockname()[1]}"
    async with connected(kind, target, retry=NEVER) as client:
        for call in (client.generate("hi"), client.stream("hi"), client.adapters()):
            with pytest.raises(Unavailable, match=rf"{target} does not answer.*`hotshoe serve` starts one"):
                await call


async def test_a_blocking_client_serves_many_threads_at_once(served: Served) -> None:
    voices = itertools.cycle([None, "acme/support", "globex/legal"])

    def work(client: Client, number: int, adapter: str | None) -> bool:
        answer = client.generate(f"prompt {number}", adapter=adapter)
        return answer.text.endswith(f"{adapter or 'base'}: prompt {number}")

    loop = asyncio.get_running_loop()
    # Threads of its own: the server runs in this process too, and uses asyncio's.
    with Client(served.address) as client, ThreadPoolExecutor(32) as threads:
        jobs = [loop.run_in_executor(threads, work, client, n, next(voices)) for n in range(64)]
        assert all(await asyncio.gather(*jobs))


async def no_work_is_left(served: Served) -> None:
    async with asyncio.timeout(5):
        while served.engine.running:
            await asyncio.sleep(0.01)
