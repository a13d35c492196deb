"""What every engine promises; the real one and the echo engine both keep it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.broken import PLAIN
from support.engines import GREEDY, as_engine_adapter, chunks, tokens

from hotshoe.adapter.errors import AdapterLoadFailed, InvalidRequest, PromptTooLong
from hotshoe.adapter.manifest import Base
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.wire.values import Chat, FinishReason, Message, Sampling

PROMPTS = ("Dear support, my invoice", "The tenant shall pay", "One frozen base model, many")


@pytest.fixture(scope="session", params=["echo", pytest.param("vllm", marks=pytest.mark.engine)])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "vllm":
        real: Engine = request.getfixturevalue("tiny_engine")
        return real
    return EchoEngine(
        Base("echo", "", "0" * 64), slots=4, max_rank=16, context_tokens=512, token_seconds=0.0005
    )


@pytest.fixture(scope="session")
async def adapters(engine: Engine, tiny_adapter: Callable[..., Path]) -> AsyncIterator[list[EngineAdapter]]:
    """Six adapters, loaded: more than the engine has slots."""
    made = [as_engine_adapter(tiny_adapter(f"contract-{seed}", seed)) for seed in range(1, 7)]
    for adapter in made:
        await engine.add(adapter)
    yield made
    for adapter in made:
        await engine.remove(adapter)


async def test_an_adapter_changes_the_answer(engine: Engine, adapters: list[EngineAdapter]) -> None:
    answers = [await tokens(engine, PROMPTS[0], each) for each in (None, *adapters)]

    assert len(set(answers)) == len(answers)


async def test_the_same_request_has_the_same_answer(engine: Engine) -> None:
    assert await tokens(engine, PROMPTS[1]) == await tokens(engine, PROMPTS[1])


async def test_base_and_adapters_answer_in_every_mixed_batch_as_they_do_alone(
    engine: Engine, adapters: list[EngineAdapter]
) -> None:
    base, (a, b, *others) = None, adapters
    alone = {
        (prompt, who.name if who else ""): await tokens(engine, prompt, who)
        for prompt in PROMPTS
        for who in (base, *adapters)
    }
    batches = [
        (base, a),
        (a, base),
        (base, a, b),
        (a, b, base, a, base, b),
        (a, a, b, b, base, base),
        (base, a, b, *others[:2], base),  # All slots full, and a row that has none.
        (base, *adapters, a, base),  # More adapters than slots.
    ]
    for batch in batches:
        asked = [(prompt, who) for prompt in PROMPTS for who in batch]
        answers = await asyncio.gather(*(tokens(engine, prompt, who) for prompt, who in asked))

        assert answers == [alone[prompt, who.name if who else ""] for prompt, who in asked]


async def test_an_answer_is_streamed_and_ends_once(engine: Engine) -> None:
    got = await chunks(engine, PROMPTS[0], sampling=Sampling(temperature=0, max_tokens=9, ignore_eos=True))

    assert sum(len(chunk.token_ids) for chunk in got) == 9
    assert [chunk.finish_reason for chunk in got] == [None] * (len(got) - 1) + [FinishReason.LENGTH]
    assert {chunk.prompt_tokens for chunk in got} == {len(engine.encode_text(PROMPTS[0]))}


async def test_a_stop_string_ends_the_answer_and_is_not_in_it(engine: Engine) -> None:
    sampling = Sampling(temperature=0, max_tokens=12, ignore_eos=True)
    text = "".join(chunk.text for chunk in await chunks(engine, PROMPTS[0], sampling=sampling))
    stop = text[3:6]
    stopping = Sampling(temperature=0, max_tokens=12, ignore_eos=True, stop=(stop,))
    got = await chunks(engine, PROMPTS[0], sampling=stopping)

    assert "".join(chunk.text for chunk in got) == text[: text.index(stop)]
    assert got[-1].finish_reason is FinishReason.STOP


async def test_closing_the_stream_ends_the_request(engine: Engine) -> None:
    endless = Sampling(temperature=0, max_tokens=400, ignore_eos=True)
    stream = engine.generate("closed-early", engine.encode_text(PROMPTS[0]), endless, None)
    async with contextlib.aclosing(stream):
        await anext(stream)

    await _comes_true(lambda: not _running(engine))


async def test_cancelling_the_reader_ends_the_request(engine: Engine) -> None:
    endless = Sampling(temperature=0, max_tokens=400, ignore_eos=True)
    reader = asyncio.create_task(chunks(engine, PROMPTS[0], sampling=endless))
    await _comes_true(lambda: _running(engine))
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader

    await _comes_true(lambda: not _running(engine))


@pytest.mark.parametrize("fault", PLAIN)
async def test_a_broken_adapter_is_refused_and_hurts_nobody(
    engine: Engine,
    adapters: list[EngineAdapter],
    tiny_adapter: Callable[..., Path],
    tmp_path: Path,
    fault: str,
) -> None:
    folder = Path(shutil.copytree(tiny_adapter("good", 50), tmp_path / "broken"))
    PLAIN[fault](folder)
    before = await asyncio.gather(tokens(engine, PROMPTS[2]), tokens(engine, PROMPTS[2], adapters[0]))
    broken = as_engine_adapter(folder)

    with pytest.raises(AdapterLoadFailed, match="acme/broken"):
        await engine.add(broken)
    with pytest.raises(AdapterLoadFailed):
        await tokens(engine, PROMPTS[2], broken)

    after = await asyncio.gather(tokens(engine, PROMPTS[2]), tokens(engine, PROMPTS[2], adapters[0]))
    assert after == before
    await engine.check()


async def test_an_id_is_never_used_twice(engine: Engine, tiny_adapter: Callable[..., Path]) -> None:
    first = as_engine_adapter(tiny_adapter("first", 60))
    await engine.add(first)
    await engine.remove(first)
    second = EngineAdapter("acme/second@0", first.id, tiny_adapter("second", 61))

    with pytest.raises(AdapterLoadFailed, match="was used before"):
        await engine.add(second)


async def test_adding_twice_and_removing_twice_are_no_errors(
    engine: Engine, tiny_adapter: Callable[..., Path]
) -> None:
    adapter = as_engine_adapter(tiny_adapter("twice", 62))
    await engine.add(adapter)
    await engine.add(adapter)
    await engine.remove(adapter)
    await engine.remove(adapter)


async def test_an_adapter_that_was_removed_is_not_answered_with(
    engine: Engine, tiny_adapter: Callable[..., Path]
) -> None:
    adapter = as_engine_adapter(tiny_adapter("removed", 63))
    await engine.add(adapter)
    await engine.remove(adapter)

    with pytest.raises(AdapterLoadFailed, match="add it before"):
        await tokens(engine, PROMPTS[0], adapter)


async def test_a_prompt_over_the_context_is_refused(engine: Engine) -> None:
    prompt = engine.encode_text("word " * engine.facts.context_tokens)

    with pytest.raises(PromptTooLong, match="shorten"):
        await tokens(engine, prompt)


@pytest.mark.parametrize("prompt", [(), (10**6,), (-1,)], ids=["empty", "over the vocabulary", "negative"])
async def test_tokens_outside_of_the_vocabulary_are_refused(engine: Engine, prompt: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest):
        await tokens(engine, prompt)


async def test_a_chat_is_rendered_and_a_turn_that_the_template_refuses_is_an_error(engine: Engine) -> None:
    ids = engine.encode_chat(Chat((Message("user", "Hello"),)))

    assert len(await tokens(engine, ids)) == GREEDY.max_tokens
    with pytest.raises(InvalidRequest, match="template"):
        engine.encode_chat(Chat((Message("tool", "42"),)))


def _running(engine: Engine) -> bool:
    if isinstance(engine, EchoEngine):
        return bool(engine.running)
    return engine._llm.output_processor.has_unfinished_requests()  # type: ignore[attr-defined, no-any-return]


async def _comes_true(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # The engine tells nobody when a request has left it.
            await asyncio.sleep(0.01)
