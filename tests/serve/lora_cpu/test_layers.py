"""The base's layers by compiled operators: the same numbers as vLLM's own, whatever they are handed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from vllm.config import CompilationConfig, VllmConfig, set_current_vllm_config
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.rotary_embedding import get_rope
from vllm.model_executor.layers.rotary_embedding.base import RotaryEmbedding
from vllm.model_executor.layers.rotary_embedding.fope import FourierRotaryEmbedding
from vllm.model_executor.layers.rotary_embedding.llama3_rope import Llama3RotaryEmbedding
from vllm.platforms import current_platform

from hotshoe.serve import lora_cpu
from hotshoe.serve.lora_cpu import layers

HIDDEN = 576
HEAD, HEADS, CONTEXT = 64, 3, 512


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    lora_cpu.register()
    current_platform.import_kernels()
    plain = VllmConfig(compilation_config=CompilationConfig(custom_ops=["none"]))
    with set_current_vllm_config(plain), torch.inference_mode():
        yield


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The compiled operators that were called."""
    called: list[str] = []

    class Noting:
        def __getattr__(self, name: str) -> Any:
            called.append(name)
            return getattr(torch.ops._C, name)

    class Ops:
        _C = Noting()

    class Torch:
        ops = Ops()
        empty = staticmethod(torch.empty)
        int64 = torch.int64

    monkeypatch.setattr(layers, "torch", Torch())
    return called


def _norm(**options: int | bool) -> RMSNorm:
    layer = RMSNorm(HIDDEN, eps=1e-5, **options)
    if layer.has_weight:
        layer.weight.data = _random(HIDDEN, seed=1)
    return layer


def _rope(*, in_halves: bool = True, **parameters: float) -> Any:
    rope_parameters = {"rope_theta": 10_000.0, **parameters}
    return get_rope(
        HEAD,
        max_position=CONTEXT,
        is_neox_style=in_halves,
        rope_parameters=rope_parameters,
        dtype=torch.float32,
    )


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _strided(rows: int, columns: int, seed: int) -> torch.Tensor:
    found = _random(rows, 2 * columns, seed=seed)[:, columns:]
    assert not found.is_contiguous()
    return found


@pytest.mark.parametrize("rows", [0, 1, 3, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_norm_is_vllm_s_own_with_and_without_a_residual(
    rows: int, scale: float, compiled: list[str]
) -> None:
    layer = _norm()
    x, residual = _random(rows, HIDDEN, seed=2) * scale, _random(rows, HIDDEN, seed=3)
    normalized, total = layers._vllm_norm(layer, x, residual)

    torch.testing.assert_close(layer(x.clone()), layers._vllm_norm(layer, x))
    found = layer(x.clone(), residual.clone())
    torch.testing.assert_close(found[0], normalized)
    assert torch.equal(found[1], total)
    assert compiled == ["rms_norm", "fused_add_rms_norm"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_row_that_overflows_stays_one_and_leaves_the_others_alone(value: float) -> None:
    layer = _norm()
    x = _random(3, HIDDEN, seed=4)
    x[1, 7] = value
    expected = layers._vllm_norm(layer, x.clone())

    torch.testing.assert_close(layer(x), expected, equal_nan=True)


@pytest.mark.parametrize(
    "x", [_strided(4, HIDDEN, 5), _random(2, 3, HIDDEN, seed=6)], ids=["strided", "by the head"]
)
def test_a_norm_takes_rows_that_lie_apart(x: torch.Tensor, compiled: list[str]) -> None:
    layer = _norm()

    torch.testing.assert_close(layer(x), layers._vllm_norm(layer, x))
    assert compiled == ["rms_norm"]


@pytest.mark.parametrize(
    ("layer", "x", "residual"),
    [
        (lambda: _norm(var_hidden_size=HIDDEN // 2), _random(4, HIDDEN, seed=7), None),
        (lambda: RMSNorm(HIDDEN + 4), _random(4, HIDDEN + 4, seed=7), None),
        (_norm, _random(4, HIDDEN, seed=7).double(), None),
        (_norm, _random(4, HIDDEN, seed=7), _strided(4, HIDDEN, 8)),
        (_norm, _random(4, HIDDEN, seed=7), _random(4, HIDDEN, seed=8).double()),
        (_norm, _random(4, HIDDEN, seed=7), _random(1, HIDDEN, seed=8)),
        (_norm, _strided(4, HIDDEN, 7), _random(4, HIDDEN, seed=8)),
    ],
    ids=[
        "of a part",
        "an odd width",
        "other numbers",
        "a strided residual",
        "an other residual",
        "one residual",
        "strided",
    ],
)
def test_what_the_operator_does_not_take_goes_vllm_s_way(
    layer: Callable[[], RMSNorm], x: torch.Tensor, residual: torch.Tensor | None, compiled: list[str]
) -> None:
    made = layer()
    before = [x.clone(), None if residual is None else residual.clone()]

    torch.testing.assert_close(made(x, residual), layers._vllm_norm(made, *before))
    assert compiled == []


def test_a_weight_of_another_width_is_an_error_and_not_read_beyond() -> None:
    with pytest.raises(RuntimeError, match="size of tensor"):
        _norm()(_random(4, HIDDEN + 16, seed=9))


@pytest.mark.parametrize("part", [1.0, 0.5])
@pytest.mark.parametrize("in_halves", [True, False])
@pytest.mark.parametrize("keys", [True, False])
def test_positions_are_turned_into_angles_as_by_vllm_s_own(
    part: float, in_halves: bool, keys: bool, compiled: list[str]
) -> None:
    rope = _rope(in_halves=in_halves, partial_rotary_factor=part)
    positions = torch.arange(5, 15)
    width = HEADS * HEAD
    query, key, value = torch.split(_random(10, 3 * width, seed=10), width, -1)
    asked = (query, key) if keys else (query,)
    expected = layers._vllm_rotate(rope, positions, *(each.clone() for each in asked))
    before = value.clone()

    torch.testing.assert_close(rope(positions, *asked), expected)
    assert torch.equal(value, before)
    assert compiled == ["rotary_embedding"]


@pytest.mark.parametrize(
    "positions",
    [torch.arange(10, dtype=torch.int32), torch.arange(20)[::2], torch.arange(10).reshape(2, 5)],
    ids=["short", "strided", "in rows"],
)
def test_positions_that_the_operator_misreads_go_vllm_s_way(
    positions: torch.Tensor, compiled: list[str]
) -> None:
    rope, query = _rope(), _random(10, HEADS * HEAD, seed=13)

    mine, _ = rope(positions, query.clone())

    torch.testing.assert_close(mine, rope(positions.flatten().long().contiguous(), query.clone())[0])
    assert compiled == ["rotary_embedding"]  # For what it is compared with.


@pytest.mark.parametrize("rows", [(10, 9), (9, 10)], ids=["too few keys", "too few positions"])
def test_rows_without_a_position_are_an_error_and_not_read_beyond(rows: tuple[int, int]) -> None:
    query = _random(10, HEADS * HEAD, seed=14)
    with pytest.raises(RuntimeError, match=r"shape|size"):
        _rope()(torch.arange(rows[0]), query, _random(rows[1], HEADS * HEAD, seed=15))


@pytest.mark.parametrize("by_head", ["both", "keys"])
def test_queries_or_keys_by_the_head_are_turned_vllm_s_way(by_head: str, compiled: list[str]) -> None:
    """As LFM2 hands them over; the operator would take the heads for rows."""
    rope, positions = _rope(), torch.arange(5, 15)
    query, key = (_random(10, HEADS, HEAD, seed=seed) for seed in (11, 12))
    flat = rope(positions, query.flatten(1).clone(), key.flatten(1).clone())
    compiled.clear()

    mine = rope(positions, query if by_head == "both" else query.flatten(1), key)

    for each, expected in zip(mine, flat, strict=True):
        torch.testing.assert_close(each.flatten(1), expected)
    assert compiled == []


@pytest.mark.parametrize(
    "key",
    [_random(10, 2 * HEADS * HEAD, seed=16)[:, ::2], _random(10, HEADS * HEAD, seed=16).double()],
    ids=["numbers that lie apart", "other numbers"],
)
def test_keys_that_the_operator_misreads_go_vllm_s_way(key: torch.Tensor, compiled: list[str]) -> None:
    rope, positions, query = _rope(), torch.arange(10), _random(10, HEADS * HEAD, seed=17)
    expected = layers._vllm_rotate(rope, positions, query.clone(), key.clone())

    torch.testing.assert_close(rope(positions, query, key), expected)
    assert compiled == []


def test_layers_with_a_way_of_their_own_keep_it() -> None:
    assert issubclass(FourierRotaryEmbedding, RotaryEmbedding)
    assert FourierRotaryEmbedding.forward_native is not layers._compiled_rotate
    assert Llama3RotaryEmbedding.forward_native is layers._compiled_rotate
    assert RMSNorm.forward_native is layers._compiled_norm
