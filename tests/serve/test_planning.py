"""What a server would hold, worked out before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.adapters import LEGAL, SUPPORT, make_adapter, make_base
from support.lora import BASE_CONFIG, CONFIG, tensors, write_adapter

from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import BaseModel, Registry, open_registry
from hotshoe.serve import start
from hotshoe.serve.config import ServeConfig
from hotshoe.serve.lora_cpu import STOCK, SWITCH
from hotshoe.serve.planning import (
    adapter_bytes,
    available_memory,
    kv_bytes_per_token,
    make_plan,
    read_base_config,
)

SMOLLM2: dict[str, Any] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """acme/support v1 (prod) and v2 on the base `tiny`; globex/legal v1 on another base."""
    base, other = make_base(tmp_path / "base"), make_base(tmp_path / "other", "another")
    with open_registry(tmp_path / "registry", cache=tmp_path / "cache") as opened:
        for seed in (1, 2):
            opened.publish(make_adapter(tmp_path / f"a{seed}", seed), SUPPORT, base=base)
        opened.publish(make_adapter(tmp_path / "l", 3), LEGAL, base=other)
        opened.promote(SUPPORT, "prod", 1)
        yield opened


def publish(folder: Path, registry: Registry, base: BaseModel, name: str, *, rank: int = 4) -> None:
    """acme/NAME of that rank, for that base."""
    adapter = write_adapter(folder / name, config={**CONFIG, "r": rank}, weights=tensors(rank=rank))
    registry.publish(adapter, AdapterName("acme", name), base=base)


def test_the_sizes_are_those_of_the_real_model() -> None:
    assert kv_bytes_per_token(SMOLLM2) == 2 * 30 * 3 * 64 * 4
    assert adapter_bytes(SMOLLM2, 16) == 19_537_920  # The 19.6 MB that such an adapter has on disk.


@pytest.mark.parametrize("config", [{}, {"hidden_size": None}, {"hidden_size": "x"}])
def test_what_the_config_does_not_say_is_unknown(config: dict[str, Any]) -> None:
    assert kv_bytes_per_token(config) is None
    assert adapter_bytes(config, 16) is None


def test_a_plan_judges_what_aliases_point_to_and_else_the_newest(tmp_path: Path, registry: Registry) -> None:
    base = make_base(tmp_path / "base")
    plan = make_plan(ServeConfig(base="b"), set(), base, read_base_config(base.folder), registry)
    found = {each.version: each.problem for each in plan.forecasts}
    assert set(found) == {"acme/support@v1", "globex/legal@v1"}
    assert found["acme/support@v1"] == ""
    assert "another base" in found["globex/legal@v1"]


def test_a_rank_over_the_slots_is_told_before_it_is_refused(tmp_path: Path, registry: Registry) -> None:
    base = make_base(tmp_path / "base")
    publish(tmp_path, registry, base, "wide", rank=16)
    config = ServeConfig(base="b", max_rank=8)
    plan = make_plan(config, {"max_rank"}, base, BASE_CONFIG, registry)
    assert plan.config.max_rank == 8
    assert {each.version: each.problem for each in plan.forecasts if each.version.startswith("acme/")} == {
        "acme/support@v1": "",
        "acme/wide@v1": "its rank 16 is over 8: raise --max-rank",
    }


@pytest.mark.parametrize(("rank", "fitted"), [(4, 16), (16, 16), (17, 32), (32, 32), (40, 64)])
def test_slots_are_as_wide_as_the_adapters_of_this_base_and_at_least_16(
    tmp_path: Path, registry: Registry, rank: int, fitted: int
) -> None:
    base = make_base(tmp_path / "base")
    publish(tmp_path, registry, base, "wide", rank=rank)
    publish(tmp_path, registry, make_base(tmp_path / "other", "another"), "elsewhere", rank=100)
    plan = make_plan(ServeConfig(base="b"), (), base, BASE_CONFIG, registry)
    assert plan.config.max_rank == fitted
    assert plan.adapter_bytes == adapter_bytes(BASE_CONFIG, fitted)
    assert {each.version for each in plan.forecasts if not each.problem} == {
        "acme/support@v1",
        "acme/wide@v1",
    }


def test_where_slots_cost_there_are_8_and_16_for_more_adapters_than_that(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU: vLLM's own way to have adapters in slots, not the one that we have on CPUs.
    monkeypatch.setenv(SWITCH, STOCK)
    base = make_base(tmp_path / "base")

    def slots() -> int:
        return make_plan(ServeConfig(base="b"), (), base, SMOLLM2, registry).config.slots

    assert slots() == 8
    for number in range(7):
        publish(tmp_path, registry, base, f"more-{number}")
    assert slots() == 8  # For these, acme/support, and globex/legal, which is of another base.
    publish(tmp_path, registry, base, "ninth")
    assert slots() == 16


def test_what_was_given_stays_and_the_rest_is_fitted(tmp_path: Path, registry: Registry) -> None:
    base = make_base(tmp_path / "base")
    given: dict[str, Any] = {
        "slots": 3,
        "resident": 5,
        "adapter_memory_bytes": 8 << 20,
        "max_rank": 64,
        "kv_cache_bytes": 2 << 20,
        "context_tokens": 256,
    }
    config = ServeConfig(base="b", **given)
    assert make_plan(config, given, base, SMOLLM2, registry).config == config
    fitted = make_plan(ServeConfig(base="b"), {"kv_cache_bytes"}, base, SMOLLM2, registry).config
    assert (fitted.slots, fitted.max_rank, fitted.context_tokens) == (64, 16, 8192)


def test_a_context_is_no_longer_than_the_cache(tmp_path: Path, registry: Registry) -> None:
    base = make_base(tmp_path / "base")
    config = ServeConfig(base="b", kv_cache_bytes=64 << 20)
    plan = make_plan(config, {"kv_cache_bytes"}, base, SMOLLM2, registry)
    assert plan.kv_tokens is not None
    assert plan.config.context_tokens is not None
    assert plan.kv_tokens - 128 < plan.config.context_tokens <= plan.kv_tokens
    assert plan.context_tokens == plan.config.context_tokens


def test_memory_is_the_machines_or_the_containers_whichever_is_less(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert available_memory(tmp_path) == 2 << 20
    cgroup = tmp_path / "sys/fs/cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.current").write_text("1000\n")
    (cgroup / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) == 2 << 20
    (cgroup / "memory.max").write_text("5000\n")
    assert available_memory(tmp_path) == 4000


def test_checking_loads_nothing_and_says_it_in_a_line(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSHOE_CACHE", str(tmp_path / "cache"))
    base = tmp_path / "served"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(SMOLLM2))
    config = ServeConfig(base=str(base), registry=registry.url, listen="127.0.0.1:0")
    line = start.describe(start.check(config, {"base", "listen"}))
    assert "64 slots of rank 16" in line
    assert "0 of 2 promoted versions can be served" in line


def test_a_base_of_experts_pays_for_its_slots_and_gets_few(tmp_path: Path, registry: Registry) -> None:
    base = make_base(tmp_path / "base")
    plan = make_plan(ServeConfig(base="b"), (), base, {**SMOLLM2, "num_local_experts": 8}, registry)
    assert plan.config.slots == 8


def test_there_are_no_more_slots_than_adapters_may_be_in_memory(tmp_path: Path, registry: Registry) -> None:
    config = ServeConfig(base="b", resident=20)
    plan = make_plan(config, {"resident"}, make_base(tmp_path / "base"), SMOLLM2, registry)
    assert plan.config.slots == 20
