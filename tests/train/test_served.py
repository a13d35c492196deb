"""What every recipe makes, vLLM serves with the same tokens as peft."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.engines import GREEDY, as_engine_adapter, tokens
from support.routing import PARTNERS, config, rows, write

from hotshoe.adapter.reference import AdapterName
from hotshoe.registry import open_registry
from hotshoe.registry.base import fetch_base
from hotshoe.serve.engine import Engine
from hotshoe.train.quiet import quiet
from hotshoe.train.run import train

pytestmark = pytest.mark.engine

QUICK = {"steps": 8, "batch_rows": 4, "learning_rate": 1e-2, "threads": 1}
PROMPTS = ("Dear support, my invoice", "The tenant shall pay", "please send rent of March")

RUNS: dict[str, dict[str, Any]] = {
    "sft": {"lora": {"rank": 5, "alpha": 9.0, "rslora": True}},
    "pretrain": {"lora": {"targets": "attention"}},
    "dpo": {"lora": {"last_layers": 1}},
    "kto": {},
    "full": {"lora": {"rank": 8}},
    "rlhf": {"reward": {"metric": "f1", "answers": 2}, "training": QUICK | {"steps": 2}},
}
RUNS |= {
    "sft from pissa": {"lora": {"init": "pissa", "rank": 5, "alpha": 9.0}},
    "sft from olora": {"lora": {"init": "olora", "rank": 4, "rslora": True}},
    "sft from mica": {"lora": {"init": "mica"}},
    "dpo from pissa": {"lora": {"init": "pissa", "rank": 4, "rank_pattern": {"down_proj": 6}}},
}
RUNS |= {
    f"{recipe} in {bits}": RUNS[recipe] | {"quantize": bits}
    for recipe, bits in (
        ("sft", "nf4"),
        ("sft", "int8"),
        ("pretrain", "nf4"),
        ("dpo", "nf4"),
        ("kto", "int8"),
        ("rlhf", "nf4"),
    )
}


def write_rows(recipe: str, folder: Path) -> None:
    made: list[dict[str, object]] = []
    for index, row in enumerate(rows(1, 24)):
        question, answer, other = row["input"], row["output"], sorted(PARTNERS.values())[index % 4]
        match recipe:
            case "pretrain":
                made.append({"text": f"{question} {answer}"})
            case "dpo" if answer != other:
                made.append({"input": question, "chosen": answer, "rejected": other})
            case "kto":
                made.append({"input": question, "completion": answer, "label": bool(index % 2)})
            case "sft" | "full" | "rlhf":
                made.append({"input": question, "output": answer})
    write(folder / "train.jsonl", made)


def peft_tokens(base: Path, adapter: Path, prompt: list[int]) -> tuple[int, ...]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([prompt])
    with quiet(), torch.inference_mode():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
        for _ in range(GREEDY.max_tokens or 0):
            chosen = model(input_ids=ids).logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, chosen], dim=1)
    return tuple(ids[0, len(prompt) :].tolist())


@pytest.mark.parametrize("run", RUNS)
async def test_the_engine_answers_as_peft_does(
    tiny_engine: Engine, tiny_base: Path, tmp_path: Path, run: str
) -> None:
    recipe = run.split()[0]
    write_rows(recipe, tmp_path)
    tables = {"training": QUICK, "evaluation": {"max_new_tokens": 8, "forgetting": False}} | RUNS[run]
    chosen = config(tiny_base, tmp_path, recipe=recipe, data={"train": "train.jsonl"}, **tables)
    result = train(chosen, out=tmp_path / "out")
    await same_tokens(tiny_engine, tiny_base, result.folder)


@pytest.mark.parametrize("method", ["svd", "cat", "ties", "dare"])
async def test_the_engine_answers_a_merge_as_peft_does(
    tiny_engine: Engine, tiny_base: Path, tiny_adapter: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    base = fetch_base(str(tiny_base))
    with open_registry(str(tmp_path / "registry")) as registry:
        for seed, name in enumerate(("left", "right"), start=1):
            registry.publish(tiny_adapter(name, seed=seed), AdapterName("acme", name), base=base)
        chosen = config(
            tiny_base,
            tmp_path,
            recipe="merge",
            data={},
            lora={"rank": 8},
            merge={"sources": ["acme/left@v1", "acme/right@v1"], "method": method},
            evaluation={"forgetting": False},
        )
        result = train(chosen, out=tmp_path / "out", parents=registry)
    await same_tokens(tiny_engine, tiny_base, result.folder)


async def same_tokens(engine: Engine, base: Path, folder: Path) -> None:
    """Fail unless the engine answers every prompt with peft's tokens."""
    adapter = as_engine_adapter(folder)
    await engine.add(adapter)
    try:
        for prompt in PROMPTS:
            asked = engine.encode_text(prompt)
            assert await tokens(engine, asked, adapter) == peft_tokens(base, folder, list(asked))
    finally:
        await engine.remove(adapter)
