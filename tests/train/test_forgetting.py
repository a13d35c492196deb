from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hotshoe.train.forgetting import measure_drift
from hotshoe.train.machine import Machine
from hotshoe.train.model import add_adapter, load_base
from hotshoe.train.quiet import quiet
from hotshoe.train.sections import LoraConfig


@pytest.fixture
def fresh(tiny_base: Path) -> Any:
    """A model with an adapter that does nothing yet."""
    with quiet():
        return add_adapter(load_base(tiny_base, Machine("cpu", "float32", 1)), LoraConfig(), seed=1)


def test_an_adapter_that_does_nothing_forgets_nothing(fresh: Any, tiny_tokenizer: Any) -> None:
    drift = measure_drift(fresh, tiny_tokenizer)
    assert drift.divergence == pytest.approx(0, abs=1e-6)
    assert drift.adapter_loss == pytest.approx(drift.base_loss)


def test_the_more_an_adapter_does_the_more_it_forgets(fresh: Any, tiny_tokenizer: Any) -> None:
    import torch

    drifts = []
    for scale in (0.01, 0.1):
        with torch.no_grad():
            for name, weights in fresh.named_parameters():
                if "lora_B" in name:
                    weights.fill_(scale)
        drifts.append(measure_drift(fresh, tiny_tokenizer).divergence)
    assert 0 < drifts[0] < drifts[1]
