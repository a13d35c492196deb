"""Load: what is sent, and what is made of what came back."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.serving import Served, echo_server

from hotshoe.adapter.errors import InvalidRequest
from hotshoe.adapter.reference import AdapterRef
from hotshoe.client import AsyncClient
from hotshoe.client.load import BASE, Load, send
from hotshoe.client.measures import Report, Sample, Spread
from hotshoe.client.retry import NEVER
from hotshoe.wire.values import Event, Finished, FinishReason, Prompt, Sampling, Usage


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with echo_server(tmp_path, token_seconds=0.002) as server:
        yield server


async def test_callers_ask_again_and_again_until_the_time_is_over(served: Served) -> None:
    seen: list[Sample] = []
    load = Load(("acme/support", BASE), concurrent=3, seconds=0.5, output_tokens=(4, 4))
    async with AsyncClient(served.address, retry=NEVER) as client:
        report = await send(client, load, on_sample=seen.append)
    assert report.outcomes == Counter(OK=len(seen))
    assert report.adapters["acme/support"] > 0 < report.adapters[BASE]
    assert report.output_tokens == 4 * len(seen)
    assert report.between_tokens.count == 3 * len(seen)
    assert 0.002 < report.between_tokens.percentiles[0] < report.whole.percentiles[0]
    assert 0.5 <= report.seconds < 5
    assert served.engine.running == set()


async def test_requests_arrive_at_their_rate_however_long_answers_take(served: Served) -> None:
    load = Load(rate=100, seconds=1.0, output_tokens=(200, 200))
    async with AsyncClient(served.address, retry=NEVER) as client:
        report = await send(client, load)
    assert 60 < sum(report.outcomes.values()) < 140


async def test_what_is_refused_is_counted_by_its_reason_and_measured_nowhere(served: Served) -> None:
    load = Load(("acme/nobody",), concurrent=1, seconds=0.1)
    async with AsyncClient(served.address, retry=NEVER) as client:
        report = await send(client, load)
    assert set(report.outcomes) == {"ADAPTER_NOT_FOUND"}
    assert (report.first_token.count, report.whole, report.output_tokens) == (0, Spread.of([]), 0)


ENOUGH = 300


class Enough(Exception):
    """No error."""


class Asked(AsyncClient):
    """Notes down what it is asked for, and answers at once with nothing; ends the load when it has enough."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1")
        self.voices: list[str] = []
        self.words: list[list[str]] = []
        self.sampling: list[Sampling] = []

    async def stream(
        self,
        prompt: Prompt | str,
        *,
        adapter: AdapterRef | str | None = None,
        sampling: Sampling | None = None,
        **named: Any,
    ) -> AsyncGenerator[Event, None]:
        assert isinstance(prompt, str)
        assert sampling is not None
        self.voices.append(str(adapter or BASE))
        self.words.append(prompt.split())
        self.sampling.append(sampling)
        if len(self.words) == ENOUGH:
            raise Enough
        yield Finished(FinishReason.STOP, Usage())


async def asked(**load: Any) -> Asked:
    """What one caller asks for first: always the same, as chance has a seed."""
    client = Asked()
    async with client:
        with pytest.raises(ExceptionGroup) as ended:
            await send(client, Load(concurrent=1, seconds=60, **load))
    assert ended.group_contains(Enough)
    return client


@pytest.mark.parametrize(
    ("zipf", "shares"),
    [(0.0, (1 / 3, 1 / 3, 1 / 3)), (1.0, (6 / 11, 3 / 11, 2 / 11)), (2.0, (36 / 49, 9 / 49, 4 / 49))],
)
async def test_the_second_adapter_is_wanted_less_by_a_power_of_2_and_the_third_of_3(
    zipf: float, shares: tuple[float, ...]
) -> None:
    adapters = ("acme/support", BASE, "globex/legal")
    wanted = Counter((await asked(adapters=adapters, zipf=zipf)).voices)
    assert [wanted[adapter] / ENOUGH for adapter in adapters] == pytest.approx(shares, abs=0.08)


async def test_prompts_and_answers_have_every_size_asked_for_and_no_other() -> None:
    client = await asked(prompt_words=(3, 6), output_tokens=(20, 24))
    assert {len(words) for words in client.words} == {3, 4, 5, 6}
    assert {each.max_tokens for each in client.sampling} == {20, 21, 22, 23, 24}
    assert all(each.ignore_eos for each in client.sampling)
    assert len({tuple(words) for words in client.words[:50]}) > 40


async def test_the_same_seed_asks_for_the_same() -> None:
    one, same, other = [(await asked(seed=seed)).words[:50] for seed in (1, 1, 2)]
    assert one == same != other


@pytest.mark.parametrize(
    "wrong",
    [
        {"adapters": ()},
        {"rate": 0},
        {"concurrent": 0},
        {"seconds": 0},
        {"prompt_words": (0, 5)},
        {"output_tokens": (9, 5)},
    ],
)
def test_load_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Load(**wrong)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(each) for each in range(1, 101)]
    random.Random(1).shuffle(values)
    assert Spread.of(values) == Spread(100, 50.5, (50, 90, 95, 99), 100)
    assert Spread.of([3.0]) == Spread(1, 3.0, (3.0,) * 4, 3.0)


def test_a_report_times_only_what_was_answered() -> None:
    samples = [
        Sample("a", first_token=0.1, gaps=[0.01], seconds=0.2, prompt_tokens=5, output_tokens=2),
        Sample("a", outcome="UNAVAILABLE", first_token=9.0, seconds=9.0, output_tokens=1),
    ]
    report = Report.of(samples, 2.0)
    assert report.outcomes == Counter(OK=1, UNAVAILABLE=1)
    assert (report.first_token.most, report.whole.most) == (0.1, 0.2)
    assert (report.prompt_tokens, report.output_tokens) == (5, 3)
