"""Metrics, as Prometheus sees them."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.adapters import SUPPORT, empty_files, ref
from support.serving import Served, echo_server

from hotshoe.adapter.errors import AddressInUse, HotshoeError, InvalidConfig
from hotshoe.adapter.manifest import Base
from hotshoe.client import AsyncClient
from hotshoe.registry import open_registry
from hotshoe.serve.call import Call, Origin
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.labels import LABELLED, OTHER
from hotshoe.serve.metrics import Metrics
from hotshoe.serve.server import Running, running
from hotshoe.wire.values import Resolved, Sampling, Tokens

if TYPE_CHECKING:
    from hotshoe.serve.vllm_engine import VllmEngine

BASE = Base("tiny", "", "0" * 64)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with echo_server(tmp_path, slots=1, metrics="127.0.0.1:0") as server:
        yield server


async def scrape(served: Served | Running) -> dict[tuple[str, str], float]:
    """Every sample by its name and its labels, written as Prometheus does."""

    def get() -> str:
        url = f"http://{served.telemetry.metrics_address}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read(), "utf-8")

    return {
        (
            sample.name,
            ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(await asyncio.to_thread(get))
        for sample in family.samples
    }


async def test_a_request_counts_its_tokens_and_times_under_its_adapter(served: Served) -> None:
    async with AsyncClient(served.address) as client:
        answer = await client.generate("hello", adapter="acme/support@v2")
    seen = await scrape(served)
    who = "adapter=acme/support,tenant="
    assert seen["hotshoe_requests_total", "adapter=acme/support,outcome=OK,tenant="] == 1
    assert seen["hotshoe_tokens_total", "adapter=acme/support,kind=prompt,tenant="] == 5
    output = answer.usage.output_tokens
    assert seen["hotshoe_tokens_total", "adapter=acme/support,kind=output,tenant="] == output
    assert seen["hotshoe_first_token_seconds_count", who] == 1
    assert seen["hotshoe_inter_token_seconds_count", who] == output - 1
    assert seen["hotshoe_request_seconds_count", who] == 1
    assert seen["hotshoe_requests_running", ""] == 0


async def test_a_refused_request_counts_under_its_reason_and_makes_up_no_label(served: Served) -> None:
    async with AsyncClient(served.address) as client:
        for name in ("acme/nobody", "acme/support@v9"):
            with pytest.raises(HotshoeError):
                await client.generate("hello", adapter=name)
    seen = await scrape(served)
    assert seen["hotshoe_requests_total", "adapter=,outcome=ADAPTER_NOT_FOUND,tenant="] == 1
    assert seen["hotshoe_requests_total", "adapter=,outcome=VERSION_NOT_FOUND,tenant="] == 1
    assert not any("nobody" in labels for _, labels in seen)


async def test_loads_evictions_and_swaps_are_counted(served: Served) -> None:
    async with AsyncClient(served.address) as client:
        await client.generate("hi", adapter="globex/legal")
        await client.generate("hi", adapter="acme/support")  # Evicts, as there is one place.
        served.registry.promote(SUPPORT, "prod", 2)
        async with asyncio.timeout(5):
            while (await client.generate("hi", adapter="acme/support")).resolved.version != "v2":
                await asyncio.sleep(0.01)
    seen = await scrape(served)
    loads = seen["hotshoe_adapter_loads_total", "outcome=OK"]
    assert loads == seen["hotshoe_adapter_load_seconds_count", ""] >= 3
    assert seen["hotshoe_adapter_unloads_total", "why=evicted"] >= 1
    assert seen["hotshoe_alias_swaps_total", "outcome=OK"] == 1
    assert seen["hotshoe_adapters_loaded", ""] == seen["hotshoe_adapters_capacity", ""] == 1
    assert seen["hotshoe_adapters_leased", ""] == seen["hotshoe_aliases_stuck", ""] == 0
    assert 0 <= seen["hotshoe_alias_knowledge_age_seconds", ""] < 5


async def test_an_alias_that_cannot_move_is_told_until_it_can(served: Served, tmp_path: Path) -> None:
    async with AsyncClient(served.address) as client:
        await client.generate("hi", adapter="acme/support@prod")
        empty_files(served.registry, tmp_path / "registry", ref("acme/support@v2"))
        served.registry.promote(SUPPORT, "prod", 2)
        seen = await scrape_until(served, "hotshoe_aliases_stuck", 1)
        assert seen["hotshoe_alias_swaps_total", "outcome=TAMPERED"] >= 1
        assert seen["hotshoe_alias_swaps_total", "outcome=OK"] == 0
        assert seen["hotshoe_adapter_loads_total", "outcome=TAMPERED"] >= 1
        served.registry.promote(SUPPORT, "prod", 1)
        await scrape_until(served, "hotshoe_aliases_stuck", 0)


async def scrape_until(served: Served, name: str, value: float) -> dict[tuple[str, str], float]:
    """The samples as soon as this one, which has no labels, says so."""
    async with asyncio.timeout(10):
        while (seen := await scrape(served))[name, ""] != value:
            await asyncio.sleep(0.05)
    return seen


async def test_what_else_the_process_measures_is_told_too(served: Served) -> None:
    seen = await scrape(served)
    assert ("python_info" in {name for name, _ in seen}) or ("process_cpu_seconds_total", "") in seen
    assert seen["hotshoe_base", f"digest={served.engine.facts.base.digest},repo=tiny"] == 1


@pytest.mark.engine
async def test_the_engines_own_figures_are_beside_the_servers(
    tiny_engine: VllmEngine, tmp_path: Path
) -> None:
    config = ServeConfig(base="tiny", listen="127.0.0.1:0", metrics="127.0.0.1:0")
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        async with running(config, tiny_engine, registry) as server:
            before = await scrape(server)
            async with AsyncClient(server.address) as client:
                answer = await client.generate("hello", sampling=Sampling(max_tokens=5, ignore_eos=True))
            async with asyncio.timeout(10):
                while total(after := await scrape(server), "vllm:generation_tokens_total") == total(
                    before, "vllm:generation_tokens_total"
                ):
                    await asyncio.sleep(0.05)  # The engine counts after it has answered.
    for name, tokens in (
        ("vllm:prompt_tokens_total", answer.usage.prompt_tokens),
        ("vllm:generation_tokens_total", 5),
        ("hotshoe_requests_total", 1),
    ):
        assert total(after, name) - total(before, name) == tokens
    assert len({name for name, _ in after if name.startswith("vllm:")}) > 50


@pytest.mark.engine
async def test_tokens_of_a_prompt_that_the_engine_had_are_told_and_counted_as_cached(
    tiny_engine: VllmEngine, tmp_path: Path
) -> None:
    config = ServeConfig(base="tiny", listen="127.0.0.1:0", metrics="127.0.0.1:0")
    prompt = Tokens(tuple(range(700, 1000)))  # Over two blocks of the cache; no other test asks it.
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as registry:
        async with running(config, tiny_engine, registry) as server, AsyncClient(server.address) as client:
            first, again = [await client.generate(prompt, sampling=Sampling(max_tokens=2)) for _ in range(2)]
            seen = await scrape(server)
    assert first.usage.cached_tokens == 0 < again.usage.cached_tokens < again.usage.prompt_tokens == 300
    cached = seen["hotshoe_tokens_total", "adapter=,kind=cached,tenant="]
    assert cached == again.usage.cached_tokens


def total(seen: dict[tuple[str, str], float], name: str) -> float:
    """A series over all its labels."""
    return sum(value for (each, _), value in seen.items() if each == name)


async def test_a_port_that_is_taken_is_refused_before_anything_is_served(
    served: Served, tmp_path: Path
) -> None:
    with pytest.raises(AddressInUse):
        async with echo_server(tmp_path / "second", metrics=served.telemetry.metrics_address):
            pass


def test_a_metrics_address_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="HOST:PORT"):
        ServeConfig(base="b", metrics="9100")


def test_labels_are_bounded() -> None:
    metrics = Metrics(BASE)
    for number in range(LABELLED + 50):
        call = Call(str(number), Origin(tenant=f"t{number}"), [metrics])
        with call:
            call.on_resolved(Resolved(BASE, adapter=f"acme/a{number}"), load_ms=0)
    counted = {
        sample.labels["tenant"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "hotshoe_requests_total"
    }
    assert len(counted) == LABELLED + 1
    assert counted[OTHER] == 50


async def test_what_has_not_happened_yet_is_told_as_0_so_that_its_first_time_counts(served: Served) -> None:
    samples = await scrape(served)
    for name, labels in (
        ("hotshoe_adapter_loads_total", "outcome=OK"),
        ("hotshoe_alias_swaps_total", "outcome=OK"),
        ("hotshoe_adapter_unloads_total", "why=evicted"),
        ("hotshoe_adapter_unloads_total", "why=retired"),
    ):
        assert samples[name, labels] == 0
