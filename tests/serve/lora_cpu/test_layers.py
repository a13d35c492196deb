"""The base's layers by compiled operators: the same numbers, where vLLM has them take part at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from vllm.config import CompilationConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.platforms import current_platform

from hotshoe.serve import lora_cpu
from hotshoe.serve.lora_cpu import COMPILED_LAYERS
from hotshoe.serve.lora_cpu.layers import _normalize

HIDDEN = 576


@pytest.fixture(autouse=True)
def _enabled() -> Iterator[None]:
    lora_cpu.register()
    current_platform.import_kernels()
    enabled = CompilationConfig(custom_ops=["none", *(f"+{each}" for each in COMPILED_LAYERS)])
    with set_current_vllm_config(VllmConfig(compilation_config=enabled)), torch.inference_mode():
        yield


def _norm(**options: int | bool) -> RMSNorm:
    layer = RMSNorm(HIDDEN, eps=1e-5, **options)
    if layer.has_weight:
        layer.weight.data = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(1))
    return layer


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [0, 1, 3, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_norm_is_vllm_s_own_with_and_without_a_residual(rows: int, scale: float) -> None:
    layer = _norm()
    assert layer._forward_method.__func__ is _normalize
    x, residual = _random(rows, HIDDEN, seed=2) * scale, _random(rows, HIDDEN, seed=3)
    expected, (normalized, total) = layer.forward_native(x), layer.forward_native(x, residual)

    torch.testing.assert_close(layer(x.clone()), expected)
    found = layer(x.clone(), residual.clone())
    torch.testing.assert_close(found[0], normalized)
    assert torch.equal(found[1], total)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_row_that_overflows_stays_one_and_leaves_the_others_alone(value: float) -> None:
    layer = _norm()
    x = _random(3, HIDDEN, seed=4)
    x[1, 7] = value
    expected = layer.forward_native(x.clone())

    torch.testing.assert_close(layer(x), expected, equal_nan=True)


def test_what_the_operator_does_not_take_goes_vllm_s_way() -> None:
    layer, wide = _norm(), _random(4, 2 * HIDDEN, seed=5)
    halves = torch.split(wide, HIDDEN, -1)
    assert not halves[1].is_contiguous()
    torch.testing.assert_close(layer(halves[1]), layer.forward_native(halves[1]))
    x, residual = _random(4, HIDDEN, seed=6), halves[0].clone().t().contiguous().t()
    for mine, theirs in zip(layer(x.clone(), residual), layer.forward_native(x, residual), strict=True):
        torch.testing.assert_close(mine, theirs)
    in_half = x.to(torch.bfloat16)
    assert layer(in_half).dtype is torch.bfloat16
    for odd in (_norm(has_weight=False), _norm(var_hidden_size=HIDDEN // 2)):
        torch.testing.assert_close(odd(x), odd.forward_native(x))


def test_positions_are_turned_into_angles_as_by_vllm_s_own() -> None:
    rope = get_rope(64, max_position=512, rope_parameters={"rope_theta": 10_000.0}, dtype=torch.float32)
    assert rope._forward_method.__func__ is type(rope).forward_cpu
    positions = torch.arange(5, 15)
    mixed = _random(10, 3 * 192, seed=7)
    query, key, _ = torch.split(mixed, 192, -1)
    expected = rope.forward_native(positions, query.clone(), key.clone())

    for mine, theirs in zip(rope(positions, query, key), expected, strict=True):
        torch.testing.assert_close(mine, theirs)
