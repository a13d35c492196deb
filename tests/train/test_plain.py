"""What begins by taking a part out of the base's weights ends as a plain LoRA on the base as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.routing import config

from hotshoe.registry.inspect import inspect
from hotshoe.train.machine import Machine
from hotshoe.train.plan import plan
from hotshoe.train.quiet import quiet
from hotshoe.train.run import train

CPU = Machine("cpu", "float32", 1)
SHAPES: list[dict[str, Any]] = [
    {"init": "pissa", "rank": 6, "alpha": 9.0},
    {"init": "olora", "rank": 6, "alpha": 3.0, "rslora": True},
    {"init": "pissa", "rank": 4, "rank_pattern": {"down_proj": 7}, "alpha_pattern": {"q_proj": 5.0}},
    {"init": "olora", "rank": 4, "last_layers": 1},
]


@pytest.mark.parametrize("lora", SHAPES, ids=lambda lora: f"{lora['init']}-{len(lora)}")
def test_a_plain_adapter_says_what_the_one_it_was_made_of_said(
    tiny_base: Path, folder: Path, tmp_path: Path, lora: dict[str, Any]
) -> None:
    import torch

    with quiet():
        from hotshoe.train.model import begin_adapter, load_base
        from hotshoe.train.plain import keep_beginning, load_plain, write_plain

        ids = torch.arange(5, 45)[None]
        with torch.inference_mode():
            base = load_base(tiny_base, CPU)(input_ids=ids).logits
        model = begin_adapter(load_base(tiny_base, CPU), config(tiny_base, folder, lora=lora), ()).eval()
        with torch.inference_mode():
            torch.testing.assert_close(model(input_ids=ids).logits, base, atol=1e-3, rtol=1e-3)
        keep_beginning(model, tmp_path)
        torch.manual_seed(3)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data += 0.05 * torch.randn_like(parameter)
        with torch.inference_mode():
            learned = model(input_ids=ids).logits
        assert (learned - base).abs().max() > 0.5
        write_plain(model, tmp_path)
        plain = load_plain(lambda: load_base(tiny_base, CPU), tmp_path).eval()
        with torch.inference_mode():
            torch.testing.assert_close(plain(input_ids=ids).logits, learned, atol=1e-3, rtol=1e-3)
            with plain.disable_adapter():
                assert torch.equal(plain(input_ids=ids).logits, base)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_copy_of_its_beginning_takes_nothing_out_of_the_base_again(
    tiny_base: Path, folder: Path, init: str
) -> None:
    import torch

    with quiet(), torch.inference_mode():
        from hotshoe.train.model import begin_adapter, load_base

        ids = torch.arange(5, 45)[None]
        model = begin_adapter(load_base(tiny_base, CPU), config(tiny_base, folder, lora={"init": init}), ())
        before = model.eval()(input_ids=ids).logits
        # As trl's trainers of preferences do, which hold the policy to it.
        model.add_adapter("ref", model.peft_config["default"])
        assert torch.equal(model.eval()(input_ids=ids).logits, before)


@pytest.mark.parametrize(("init", "share"), [("pissa", 0.3), ("olora", 0.1)])
def test_its_default_rate_is_lower_and_learns(
    tiny_base: Path, folder: Path, tmp_path: Path, init: str, share: float
) -> None:
    training = {"steps": 40, "batch_rows": 8, "threads": 1}
    plain, chosen = (
        config(tiny_base, folder, lora={"init": i}, training=training) for i in ("default", init)
    )
    result = train(chosen, out=tmp_path / "out")
    rate = result.manifest.training["learning_rate"]
    assert rate == pytest.approx(share * plan(plain).learning_rate)
    assert result.losses[-1] < result.losses[0] / 2
    assert result.adapter["loss"] < result.base["loss"] / 2


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_run_from_it_learns_and_serves_at_twice_the_rank(
    tiny_base: Path, folder: Path, tmp_path: Path, init: str
) -> None:
    tables = {
        "lora": {"init": init, "rank": 8, "alpha": 16.0},
        "training": {"steps": 40, "batch_rows": 8, "learning_rate": 3e-3, "threads": 1},
    }
    chosen = config(tiny_base, folder, **tables)
    foreseen = plan(chosen)
    result = train(chosen, out=tmp_path / "out")
    assert result.adapter["exact"] > result.base["exact"] + 0.5
    assert (result.manifest.rank, result.manifest.alpha) == (16, 32.0)
    assert foreseen.trainable == result.manifest.training["trainable_parameters"]
    assert not inspect(result.folder, json.loads((tiny_base / "config.json").read_text())).findings
    # What it forgot is measured from the base as it was, not from what was left of it.
    assert result.adapter["forgetting"] > 0.01
