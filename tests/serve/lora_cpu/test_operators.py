"""The operators against the formula, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hotshoe.serve.lora_cpu.plan import LONG_RUN
from hotshoe.serve.lora_cpu.weights import LayerSlots, LayerWeights, pack

pytest.importorskip("vllm")

from hotshoe.serve.lora_cpu.punica import SegmentedPunica

INPUTS = 24
WIDTHS = (16, 8, 8)
IDS = {101: 0, 102: 1, 103: 2, 104: 3}
RANKS = {0: (4, 4, 4), 1: (5, 0, 3), 2: (0, 16, 0)}
"""Per slot, the rank in each slice, 0 where the adapter does not touch it; slot 3 touches nothing."""

BATCHES = {
    "base only": (0, 0, 0),
    "one": (101,),
    "one of each": (0, 101, 102, 103, 104, 0),
    "mixed": (103, 0, 101, 101, 0, 102, 103, 101, 0, 104, 102),
    "a long prompt": (101,) * LONG_RUN,
    "long prompts and single rows": (0, *[102] * (LONG_RUN + 3), 101, 0, 103, *[104] * LONG_RUN, 101),
}


@dataclass
class Layer:
    slots: LayerSlots
    a: dict[tuple[int, int], torch.Tensor]
    b: dict[tuple[int, int], torch.Tensor]

    def expected(self, x: torch.Tensor, y: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        want = y.clone()
        for row, adapter_id in enumerate(ids):
            left = 0
            for piece, width in enumerate(WIDTHS):
                key = (IDS.get(adapter_id, -1), piece)
                if key in self.a:
                    want[row, left : left + width] += self.b[key] @ (self.a[key] @ x[row])
                left += width
        return want


@pytest.fixture
def layer() -> Layer:
    torch.manual_seed(3)
    made = SimpleNamespace(
        lora_a_stacked=tuple(torch.zeros(1, 1, 16, INPUTS) for _ in WIDTHS),
        lora_b_stacked=tuple(torch.zeros(1, 1, width, 16) for width in WIDTHS),
        output_slices=WIDTHS,
    )
    LayerSlots.take_over(made, len(IDS))
    a: dict[tuple[int, int], torch.Tensor] = {}
    b: dict[tuple[int, int], torch.Tensor] = {}
    for slot, ranks in RANKS.items():
        for piece, rank in enumerate(ranks):
            if rank:
                a[slot, piece] = torch.randn(rank, INPUTS)
                b[slot, piece] = torch.randn(WIDTHS[piece], rank)
        made.set_lora(slot, pack(*([each.get((slot, piece)) for piece in range(3)] for each in (a, b))), None)
    return Layer(made.lora_a_stacked, a, b)


def _planned(ids: Sequence[int]) -> SegmentedPunica:
    punica = SegmentedPunica(256, 64, torch.device("cpu"))
    mapping: Any = SimpleNamespace(index_mapping=tuple(ids), prompt_mapping=tuple(ids), is_prefill=True)
    punica.update_metadata(mapping, list(IDS), len(IDS) + 1, 1000)
    return punica


@pytest.mark.parametrize("ids", BATCHES.values(), ids=BATCHES.keys())
@pytest.mark.parametrize("contiguous", [True, False])
def test_each_row_gets_its_own_adapter_and_a_row_without_one_nothing(
    layer: Layer, ids: Sequence[int], contiguous: bool
) -> None:
    x = torch.randn(len(ids), INPUTS)
    wide = torch.randn(len(ids), sum(WIDTHS) + 5)
    y = wide[:, :-5].contiguous() if contiguous else wide[:, :-5]
    want = layer.expected(x, y, ids)
    base_rows = [row for row, adapter_id in enumerate(ids) if not adapter_id]
    untouched = y[base_rows].clone()

    _planned(ids).add_lora_linear(y, x, layer.slots, (), 1.0, WIDTHS)

    torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-4)
    assert torch.equal(y[base_rows], untouched)


def test_infinite_and_undefined_numbers_stay_with_their_own_rows(layer: Layer) -> None:
    ids = BATCHES["mixed"]
    x = torch.randn(len(ids), INPUTS)
    x[0], x[2] = float("nan"), float("inf")
    y = torch.zeros(len(ids), sum(WIDTHS))
    layer.slots.set(
        1, pack([torch.full((2, INPUTS), 1e30), None, None], [torch.full((16, 2), 1e30), None, None])
    )

    _planned(ids).add_lora_linear(y, x, layer.slots, (), 1.0, WIDTHS)

    hurt = [not row.isfinite().all() for row in y]
    assert hurt == [row in (0, 2) or adapter_id == 102 for row, adapter_id in enumerate(ids)]


def test_a_slot_that_is_filled_anew_is_read_anew(layer: Layer) -> None:
    ids = (101, 102)
    punica = _planned(ids)
    x, y = torch.randn(2, INPUTS), torch.zeros(2, sum(WIDTHS))
    punica.add_lora_linear(y, x, layer.slots, (), 1.0, WIDTHS)
    layer.slots.reset(0)
    layer.slots.reset(1)
    again = torch.zeros_like(y)
    punica.add_lora_linear(again, x, layer.slots, (), 1.0, WIDTHS)

    assert y.any()
    assert not again.any()


@pytest.mark.parametrize("ids", BATCHES.values(), ids=BATCHES.keys())
def test_slots_that_vllm_fills_itself_keep_rows_apart_too(ids: Sequence[int]) -> None:
    torch.manual_seed(4)
    a, b = torch.randn(len(IDS), 1, 4, INPUTS), torch.randn(len(IDS), 1, 50, 4)
    x, y = torch.randn(len(ids), INPUTS), torch.zeros(len(ids), 50)

    _planned(ids).add_lora_linear(y, x, (a,), (b,), 1.0, (50,))

    for row, adapter_id in enumerate(ids):
        slot = IDS.get(adapter_id)
        want = torch.zeros(50) if slot is None else b[slot, 0] @ (a[slot, 0] @ x[row])
        torch.testing.assert_close(y[row], want, rtol=1e-4, atol=1e-4)


def test_slots_cost_no_memory() -> None:
    made = SimpleNamespace(
        lora_a_stacked=(torch.zeros(1, 1, 64, 4096),),
        lora_b_stacked=(torch.zeros(1, 1, 4096, 64),),
        output_slices=(4096,),
    )
    LayerSlots.take_over(made, 1000)

    assert made.lora_a_stacked[0].shape == (1000, 1, 64, 4096)
    assert made.lora_a_stacked[0].untyped_storage().nbytes() == 4


def test_absent_modules_take_no_place() -> None:
    packed = pack([None, torch.ones(3, INPUTS), None], [None, torch.ones(8, 3), None])

    assert isinstance(packed, LayerWeights)
    assert packed.a.shape == (3, INPUTS)
    assert [which for which, _ in packed.parts] == [1]
    assert pack([None], [None]) is None
