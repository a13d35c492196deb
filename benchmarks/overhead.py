"""What Hotshoe costs a request and a token: choosing, admission, lease, observers."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks import models
from benchmarks.clients import Ask
from benchmarks.engines import answer, prompts, vllm_engine
from benchmarks.harness import Arm, Group, Row, Sample, Series, Spread, at_least, at_most, in_turns
from benchmarks.streams import Answer, at_once, throughput
from hotshoe.adapter.reference import AdapterName, AdapterRef
from hotshoe.registry import Registry, open_registry
from hotshoe.serve.admission import Admission
from hotshoe.serve.catalog import Catalog
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.echo_engine import EchoEngine
from hotshoe.serve.engine import Engine, EngineAdapter
from hotshoe.serve.fairness import FairQueue
from hotshoe.serve.generation import Generation
from hotshoe.serve.pool import AdapterPool
from hotshoe.serve.shelf import Shelf
from hotshoe.serve.telemetry import telemetry
from hotshoe.wire.values import Delta, GenerateRequest, Sampling, Tokens

ROUNDS = 9
WAVE_ROUNDS = 4
"""So many of waves for each round of the rest: they are short, swing by tens of percent, and their goal is
three."""

REQUESTS, LONG = 300, 33
STREAMS, WAVES, PROMPT_TOKENS, ANSWER_TOKENS = 64, 4, 16, 32
NAME = AdapterName("bench", "one")


async def measure(rounds: int) -> Group:
    """The same engine asked directly and through the use case, for 1 token and for 33."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        base = models.tiny_base(scratch)
        with open_registry(scratch / "registry", cache=scratch / "cache") as registry:
            made = models.make_adapter(scratch / "made", base, seed=1)
            registry.promote(NAME, "prod", registry.publish(made, NAME, base=base).number, reason="benchmark")
            engine = EchoEngine(base.base)
            async with _generation(engine, registry) as generation:
                series = await in_turns(
                    {
                        "engine, 1": _direct(engine, 1),
                        "hotshoe, 1": _through(generation, 1),
                        f"engine, {LONG}": _direct(engine, LONG),
                        f"hotshoe, {LONG}": _through(generation, LONG),
                    },
                    rounds,
                )
            async with vllm_engine(base, max_sequences=STREAMS) as real, _generation(real, registry) as over:
                same = EngineAdapter(name="bench/same@1", id=1000, folder=made)
                await real.add(same)
                streaming = await in_turns(
                    {"engine": _streams(_ask_engine(real, same)), "hotshoe": _streams(_ask(over))},
                    rounds * WAVE_ROUNDS,
                )
    return _group(series, streaming)


def _group(series: Series, streaming: Series) -> Group:
    samples = {name: [sample["us"] for sample in each] for name, each in series.samples.items()}
    short = [b - a for a, b in zip(samples["engine, 1"], samples["hotshoe, 1"], strict=True)]
    long = [b - a for a, b in zip(samples[f"engine, {LONG}"], samples[f"hotshoe, {LONG}"], strict=True)]
    per_token = [(b - a) / (LONG - 1) for a, b in zip(short, long, strict=True)]
    return Group(
        name="overhead",
        title="What tenancy, admission, leases and metrics cost",
        setting=f"CPU of one thread, {REQUESTS} requests one after the other, an adapter by its alias, over "
        f"an engine without a model; and {STREAMS} streams of {ANSWER_TOKENS} tokens with one adapter "
        "on vLLM with the tiny Llama. gRPC is in neither.",
        rows=[
            Row(
                "a request",
                {},
                "CPU",
                Spread.of(short),
                result_unit="us",
                goal=at_most(100),
            ),
            Row("a token of a stream, each in a message of its own", {}, "", Spread.of(per_token), "us"),
            streaming.row(
                f"{STREAMS} streams, over the same engine without",
                "tokens/s",
                "tokens/s",
                arm="hotshoe",
                peer="engine",
                goal=at_least(0.97),
            ),
        ],
    )


@contextlib.asynccontextmanager
async def _generation(engine: Engine, registry: Registry) -> AsyncIterator[Generation]:
    base = engine.facts.base
    with telemetry(ServeConfig(base=base.repo), base) as seen:
        pool = AdapterPool(engine, Shelf(registry, engine.facts), capacity=8, journal=seen.journal)
        catalog = Catalog(registry, pool, journal=seen.journal)
        admission = Admission(FairQueue(STREAMS, 8))
        seen.watch(pool, catalog, admission)
        yield Generation(engine, catalog, pool, admission, observers=seen.observers)
        await pool.close()


def _direct(engine: EchoEngine, tokens: int) -> Arm:
    ids = itertools.count()

    async def run() -> Sample:
        began = time.process_time()
        for _ in range(REQUESTS):
            stream = engine.generate(f"direct-{next(ids)}", _prompt(tokens), _sampling(tokens), None)
            async for _chunk in stream:
                pass
        return {"us": (time.process_time() - began) * 1e6 / REQUESTS}

    return run


def _through(generation: Generation, tokens: int) -> Arm:
    ids = itertools.count()
    request = GenerateRequest(
        Tokens(_prompt(tokens)), adapter=AdapterRef.parse(str(NAME)), sampling=_sampling(tokens)
    )

    async def run() -> Sample:
        began = time.process_time()
        for _ in range(REQUESTS):
            async for _events in generation.stream(request, request_id=f"hotshoe-{next(ids)}"):
                pass
        return {"us": (time.process_time() - began) * 1e6 / REQUESTS}

    return run


def _prompt(tokens: int) -> tuple[int, ...]:
    return (65,) * (tokens + 8)


def _sampling(tokens: int) -> Sampling:
    return Sampling(max_tokens=tokens, temperature=0, ignore_eos=True)


def _ask_engine(engine: Engine, adapter: EngineAdapter) -> Ask:
    return lambda prompt, tokens: answer(engine, prompt, tokens, adapter)


def _ask(generation: Generation) -> Ask:
    ids = itertools.count()

    async def ask(prompt: Sequence[int], tokens: int) -> Answer:
        request = GenerateRequest(
            Tokens(tuple(prompt)), adapter=AdapterRef.parse(str(NAME)), sampling=_sampling(tokens)
        )
        stream = generation.stream(request, request_id=f"stream-{next(ids)}")
        async with contextlib.aclosing(stream) as pieces:
            async for events in pieces:
                for event in events:
                    if isinstance(event, Delta):
                        yield len(event.token_ids)

    return ask


def _streams(ask: Ask) -> Arm:
    seeds = itertools.count()

    async def run() -> Sample:
        rates = []
        for _ in range(WAVES):
            asked = prompts(STREAMS, PROMPT_TOKENS, 1000, seed=next(seeds))
            rates.append(
                throughput(await at_once(lambda n, asked=asked: ask(asked[n], ANSWER_TOKENS), STREAMS))  # type: ignore[misc]
            )
        return {"tokens/s": sum(rates) / len(rates)}

    return run
