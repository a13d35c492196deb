"""What only the real engine can show: PEFT's own answers, poison, and death."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from support import tiny
from support.engines import GREEDY, as_engine_adapter, chunks, tokens
from support.processes import command

from hotshoe.adapter.errors import AdapterLoadFailed, EngineUnavailable, InvalidConfig, Unservable
from hotshoe.adapter.manifest import Base
from hotshoe.serve import lora_cpu
from hotshoe.serve.gathering import Gathering
from hotshoe.serve.prespawn import prespawned
from hotshoe.serve.vllm_config import VllmConfig, environment
from hotshoe.wire.values import Sampling

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

pytestmark = pytest.mark.engine

PROMPTS = (
    "Dear support, my invoice",
    "The tenant shall pay",
    "One frozen base model, many",
    "in advance",
    '{"category"',
    "hot shoe",
)
UNIFORM = {"seed": 70}, {"seed": 71, "targets": ("q_proj", "v_proj")}
IMPORTING, LOADING = "hotshoe.serve.prespawn", "EngineCore"
"""In the command of an engine's process, first the one and then the other."""
ODD = {"seed": 72, "rank": 5, "alpha": 7}, {"seed": 73, "rank": 16, "targets": ("down_proj", "k_proj")}


@pytest.mark.parametrize("options", [None, *UNIFORM, *ODD], ids=["base", "all", "qv", "rank 5", "rank 16"])
async def test_greedy_tokens_are_those_of_transformers_and_peft(
    tiny_engine: VllmEngine, tiny_base: Path, tmp_path: Path, options: dict[str, int] | None
) -> None:
    adapter = None
    if options:
        adapter = as_engine_adapter(tiny.build_adapter(tmp_path / "reference", **options))  # type: ignore[arg-type]
        await tiny_engine.add(adapter)
    answers = [await tokens(tiny_engine, prompt, adapter) for prompt in PROMPTS]

    folder = adapter.folder if adapter else None
    assert answers == _reference(tiny_base, folder, [tiny_engine.encode_text(prompt) for prompt in PROMPTS])
    if adapter:
        await tiny_engine.remove(adapter)


async def test_no_engine_of_a_server_computes_otherwise_than_its_first(
    tiny_engine: VllmEngine, small_engine: VllmEngine
) -> None:
    for engine in (tiny_engine, small_engine):
        assert "none" in engine._llm.vllm_config.compilation_config.custom_ops


async def test_a_finite_adapter_that_overflows_leaves_no_trace_in_later_answers(
    tiny_engine: VllmEngine, tiny_adapter: Callable[..., Path]
) -> None:
    prompts = [f"{word} {number}" for number in range(8) for word in PROMPTS]
    assert len(prompts) == 48
    before = await _all(tiny_engine, prompts)
    poison = as_engine_adapter(tiny_adapter("poison", 74, scale=1e18))
    await tiny_engine.add(poison)
    # Long enough to go through every KV block there is.
    for first in range(12):
        long = tuple(range(first + 10, first + 10 + tiny.CONTEXT_TOKENS - 100))
        with pytest.raises(Unservable, match="overflows on this prompt"):
            await tokens(tiny_engine, long, poison)
    await tiny_engine.remove(poison)

    assert await _all(tiny_engine, prompts) == before


async def test_an_overflowing_adapter_beside_others_changes_only_its_own_answers(
    tiny_engine: VllmEngine, tiny_adapter: Callable[..., Path]
) -> None:
    good = as_engine_adapter(tiny_adapter("neighbour", 75))
    poison = as_engine_adapter(tiny_adapter("poison", 76, scale=1e18))
    for adapter in (good, poison):
        await tiny_engine.add(adapter)
    alone = [await tokens(tiny_engine, PROMPTS[0], None), await tokens(tiny_engine, PROMPTS[0], good)]

    mixed = await asyncio.gather(
        *(tokens(tiny_engine, PROMPTS[0], who) for who in (poison, None, good, poison, None, good)),
        return_exceptions=True,
    )

    assert [mixed[1], mixed[2], mixed[4], mixed[5]] == alone * 2
    assert [type(mixed[0]), type(mixed[3])] == [Unservable] * 2
    for adapter in (good, poison):
        await tiny_engine.remove(adapter)


async def test_an_adapter_that_leaves_while_its_request_waits_to_enter_kills_nobody(
    tiny_engine: VllmEngine, tiny_adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gathering = Gathering(few=1, quiet_seconds=3600, longest_seconds=3600)
    monkeypatch.setattr(tiny_engine, "_gathering", gathering)
    leaving, staying = (
        as_engine_adapter(tiny_adapter("good", 50)),
        as_engine_adapter(tiny_adapter("good", 51)),
    )
    for adapter in (leaving, staying):
        await tiny_engine.add(adapter)
    with monkeypatch.context() as beside:
        beside.setattr(tiny_engine, "_streams", 1)
        answers = [asyncio.create_task(tokens(tiny_engine, PROMPTS[0], each)) for each in (leaving, staying)]
        async with asyncio.timeout(30):
            while len(gathering._here) < len(answers):
                await asyncio.sleep(0.001)
    await tiny_engine.remove(leaving)
    await gathering.join(0)

    gone, answered = await asyncio.gather(*answers, return_exceptions=True)
    assert isinstance(gone, AdapterLoadFailed)
    assert answered == await tokens(tiny_engine, PROMPTS[0], staying)
    await tiny_engine.remove(staying)


async def test_unset_sampling_takes_the_defaults_of_the_base(tiny_engine: VllmEngine) -> None:
    from hotshoe.serve.vllm_params import params_of

    params = params_of(Sampling(max_tokens=3, top_p=0.5), tiny_engine._defaults)

    assert (params.temperature, params.top_p, params.max_tokens) == (0.7, 0.5, 3)


async def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    from hotshoe.serve.vllm_engine import start_vllm_engine

    with pytest.raises(InvalidConfig, match=tmp_path.name):
        await start_vllm_engine(VllmConfig(tmp_path, Base("nothing", "", "0" * 64)))


async def test_a_base_without_a_tokenizer_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    from hotshoe.serve.vllm_engine import start_vllm_engine

    shutil.copy(tiny_base / "config.json", tmp_path)
    with pytest.raises(InvalidConfig, match=tmp_path.name):
        await start_vllm_engine(VllmConfig(tmp_path, Base("nothing", "", "0" * 64)))


async def test_stock_vllm_still_needs_our_operators_and_a_killed_engine_says_so(
    tiny_base: Path,
    tiny_engine: VllmEngine,
    tiny_adapter: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One engine start for two facts: what stock vLLM does (if this fails, upstream has moved), and death."""
    from hotshoe.serve.vllm_engine import start_vllm_engine

    monkeypatch.setenv(lora_cpu.SWITCH, lora_cpu.STOCK)
    others = _processes()
    config = VllmConfig(
        tiny_base, Base("tiny", "", "0" * 64), slots=2, kv_cache_bytes=4 << 20, max_sequences=16
    )
    stock = await start_vllm_engine(config)
    try:
        adapters = [as_engine_adapter(tiny_adapter("stock", seed)) for seed in (77, 78)]
        ours = [as_engine_adapter(adapter.folder) for adapter in adapters]
        for mine, its in zip(ours, adapters, strict=True):
            await tiny_engine.add(mine)
            await stock.add(its)

        assert [await tokens(stock, PROMPTS[0], its) for its in adapters] == [
            await tokens(tiny_engine, PROMPTS[0], mine) for mine in ours
        ]
        alone = await tokens(stock, PROMPTS[0])
        mixed = await asyncio.gather(*(tokens(stock, PROMPTS[0], who) for who in (None, *adapters, None)))
        assert mixed[0] != alone, "stock vLLM no longer answers the base with an adapter: see lora_cpu"

        for mine in ours:
            await tiny_engine.remove(mine)
        await _kill_and_see(stock, _processes() - others)
    finally:
        await stock.close()
    assert not {process for process in _processes() - others if _is_core(process)}


@pytest.fixture(scope="module")
async def small_engine(tiny_base: Path) -> AsyncIterator[VllmEngine]:
    """Little memory and little patience; the last test that uses it leaves it dead."""
    from hotshoe.serve.vllm_engine import start_vllm_engine

    config = VllmConfig(tiny_base, Base("tiny", "", "0" * 64), kv_cache_bytes=256 << 10, silence_seconds=2)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        with prespawned(config.threads) as early:
            engine = await start_vllm_engine(config, early)
        assert early is not None
        assert LOADING in command(psutil.Process(early.pid))
        yield engine
        await engine.close()


async def test_a_base_with_a_context_that_memory_cannot_hold_starts_with_what_it_can(
    small_engine: VllmEngine,
) -> None:
    assert 2 <= small_engine.facts.context_tokens <= 256 < tiny.CONTEXT_TOKENS
    assert await tokens(small_engine, "Dear")


async def test_an_engine_leaves_nothing_in_the_folder_for_temporary_files(small_engine: VllmEngine) -> None:
    assert not os.listdir(tempfile.gettempdir())
    assert await tokens(small_engine, "Dear")


async def test_an_engine_that_hangs_is_as_good_as_dead_and_nobody_waits_for_it(
    small_engine: VllmEngine, tiny_adapter: Callable[..., Path]
) -> None:
    loaded, wanted = (as_engine_adapter(tiny_adapter("hung", seed)) for seed in (80, 81))
    await small_engine.add(loaded)
    endless = Sampling(temperature=0, max_tokens=200, ignore_eos=True)
    stream = small_engine.generate("hung", small_engine.encode_text("Dear"), endless, loaded)
    await anext(stream)
    (process,) = small_engine._llm.engine_core.resources.engine_manager.processes
    os.kill(process.pid, signal.SIGSTOP)

    async with asyncio.timeout(15):
        results = await asyncio.gather(
            _read(stream),
            small_engine.add(wanted),
            small_engine.remove(loaded),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [EngineUnavailable] * 3
    assert [getattr(result, "begun", None) for result in results] == [True, False, False]
    with pytest.raises(EngineUnavailable, match="died"):
        await small_engine.check()
    assert not process.is_alive()


async def _read(stream: AsyncIterator[object]) -> None:
    async for _ in stream:
        pass


def test_time_that_nobody_was_awake_for_is_no_silence() -> None:
    from hotshoe.serve.vllm_core import Silence

    silence = Silence(now=100)
    silence.look(3_700, heard=False)  # The machine slept for an hour.
    assert silence.seconds < 3
    for second in range(1, 31):
        silence.look(3_700 + second, heard=False)
    assert 30 <= silence.seconds < 33
    silence.look(3_731, heard=True)
    assert silence.seconds == 0


@pytest.mark.filterwarnings("ignore:.*Context.__del__:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("called", [IMPORTING, LOADING])
async def test_a_start_that_is_called_off_leaves_no_process(tiny_base: Path, called: str) -> None:
    from hotshoe.serve.vllm_engine import start_vllm_engine

    others = _processes()
    starting = asyncio.ensure_future(start_vllm_engine(VllmConfig(tiny_base, Base("tiny", "", "0" * 64))))
    async with asyncio.timeout(60):
        while not any(called in command(process) for process in _processes() - others):
            await asyncio.sleep(0.05)
    starting.cancel()

    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await starting

    gc.collect()  # vLLM leaves its sockets to the collector: heard of here, where it is known.
    assert not {process for process in _processes() - others if _is_core(process)}


async def _kill_and_see(engine: VllmEngine, started: set[psutil.Process]) -> None:
    endless = Sampling(temperature=0, max_tokens=480, ignore_eos=True)
    streams = [asyncio.create_task(chunks(engine, "Dear", sampling=endless)) for _ in range(4)]
    await asyncio.sleep(0.05)
    (core,) = [process for process in started if _is_core(process)]
    core.send_signal(signal.SIGKILL)

    async with asyncio.timeout(5):
        results = await asyncio.gather(*streams, return_exceptions=True)
    assert [type(result) for result in results] == [EngineUnavailable] * 4
    with pytest.raises(EngineUnavailable, match="died"):
        await engine.check()
    with pytest.raises(EngineUnavailable, match="died"):
        await tokens(engine, "Dear", sampling=GREEDY)


def test_the_environment_is_as_before_once_the_engine_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("VLLM_PLUGINS", "other")
    monkeypatch.delenv("VLLM_ENABLE_V1_MULTIPROCESSING", raising=False)
    before = dict(os.environ)
    with environment(threads=2):
        assert os.environ["OMP_NUM_THREADS"] == "2"
        assert os.environ["VLLM_PLUGINS"] == "other,hotshoe_lora_cpu"

    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"slots": 0}, "slots"),
        ({"max_rank": 513}, "max_rank"),
        ({"slots": 8, "cached_adapters": 4}, "cached_adapters"),
        ({"max_sequences": 64, "step_tokens": 32}, "step_tokens"),
        ({"context_tokens": 1}, "context_tokens"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(tmp_path: Path, changes: dict[str, int], names: str) -> None:
    with pytest.raises(InvalidConfig, match=names):
        VllmConfig(tmp_path, Base("b", "", "0" * 64), **changes)


def test_a_slot_has_the_next_rank_that_vllm_knows(tmp_path: Path) -> None:
    ranks = {
        asked: VllmConfig(tmp_path, Base("b", "", "0" * 64), max_rank=asked).slot_rank for asked in (1, 2, 17)
    }

    assert ranks == {1: 1, 2: 8, 17: 32}


async def _all(engine: VllmEngine, prompts: list[str]) -> list[tuple[int, ...]]:
    return list(await asyncio.gather(*(tokens(engine, prompt) for prompt in prompts)))


def _reference(base: Path, adapter: Path | None, prompts: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Greedy answers, token by token, by transformers and PEFT in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter)
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        with torch.inference_mode():
            for _ in range(GREEDY.max_tokens or 0):
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        answers.append(tuple(ids[len(prompt) :]))
    return answers


def _processes() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _is_core(process: psutil.Process) -> bool:
    return any(word in command(process) for word in (IMPORTING, LOADING, "spawn_main"))
