"""The numbers in the weights: none NaN or infinite, none large enough to overflow the base's activations.

An adapter that overflows poisons the engine's KV cache for every tenant, so this is looked at before it
is ever loaded. The bound: with |A|, |scale·B| and |scale·B·A| (Frobenius norms) of each module at most
MAX_NORM = 1e4, and inputs that are normalized before every block (at most some 1e3 in norm), a llama-like
block can grow activations to about (1e4)^3 * (1e3)^2 = 1e18, whose square still fits float32 and bfloat16
(3e38). Trained adapters stand at 1 to 300. A float16 engine may overflow sooner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hotshoe.registry.inspect.config import AdapterConfig
from hotshoe.registry.inspect.factors import Pair
from hotshoe.registry.inspect.findings import Finding, error, warning
from hotshoe.registry.inspect.folder import WEIGHTS_FILE
from hotshoe.registry.inspect.header import Tensor

MAX_NORM = 1e4

_CHUNK_ITEMS = 1 << 20
_STORED: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}

Matrix = npt.NDArray[np.floating[Any]]


class Weights:
    """The file's tensors as numbers, read in pieces of at most a million: memory stays flat."""

    def __init__(self, path: Path) -> None:
        self._bytes: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")

    def rows(self, tensor: Tensor) -> Iterator[Matrix]:
        """The 2-D tensor in pieces of whole rows, as float32 (or float64, if it is stored so)."""
        stored, step = self._stored(tensor), max(1, _CHUNK_ITEMS // tensor.shape[1])
        for begin in range(0, tensor.shape[0], step):
            yield _as_float(stored[begin : begin + step], tensor.dtype)

    def columns(self, tensor: Tensor) -> Iterator[Matrix]:
        """The 2-D tensor in pieces of whole columns, as float32 (or float64, if it is stored so)."""
        stored, step = self._stored(tensor), max(1, _CHUNK_ITEMS // tensor.shape[0])
        for begin in range(0, tensor.shape[1], step):
            yield _as_float(stored[:, begin : begin + step], tensor.dtype)

    def _stored(self, tensor: Tensor) -> npt.NDArray[np.generic]:
        return np.ndarray(tensor.shape, _STORED[tensor.dtype], buffer=self._bytes, offset=tensor.begin)


@dataclass(frozen=True, slots=True)
class Gram:
    """Of a factor with rank r: `gram` [r, r] is A·Aᵀ or Bᵀ·B, None where the factor has unusable numbers.

    norm: of the factor (Frobenius). unusable: how many numbers are NaN or infinite.
    """

    gram: Matrix | None
    norm: float
    unusable: int = 0


def gram_of_a(weights: Weights, tensor: Tensor) -> Gram:
    """A·Aᵀ of an A [rank, in]."""
    return _sum(piece.T for piece in weights.columns(tensor))


def gram_of_b(weights: Weights, tensor: Tensor) -> Gram:
    """Bᵀ·B of a B [out, rank]."""
    return _sum(weights.rows(tensor))


def norm_of_product(a: Gram, b: Gram, scale: float) -> float:
    """Frobenius norm of scale·B·A without forming it: |B·A|² = tr(Bᵀ·B · A·Aᵀ). Costs r²(in + out)."""
    if a.gram is None or b.gram is None:
        return math.inf
    # Not np.sum of the products: BLAS adds in one call, and says nothing of an overflow.
    square = float(np.vdot(a.gram, b.gram))
    # Rounding can leave a tiny negative number where the product is zero.
    return abs(scale) * math.sqrt(max(0.0, square))


def value_findings(path: Path, pairs: list[Pair], config: AdapterConfig) -> Iterator[Finding]:
    """Read every number of every pair once."""
    weights, does_something = Weights(path), False
    for pair in pairs:
        a, b = gram_of_a(weights, pair.a), gram_of_b(weights, pair.b)
        yield from (_unusable(tensor, gram) for tensor, gram in ((pair.a, a), (pair.b, b)) if gram.unusable)
        if a.gram is None or b.gram is None:
            does_something = True
            continue
        scale = config.scale_of(pair.module)
        change = norm_of_product(a, b, scale)
        does_something |= change > 0
        largest = max(a.norm, abs(scale) * b.norm, change)
        if largest > MAX_NORM:
            yield error(
                "TOO_LARGE",
                pair.a.name,
                f"has factors of norm {largest:.3g}, over the limit of {MAX_NORM:.0e}: it would overflow",
                "did training diverge? lower the learning rate or lora_alpha",
            )
    if pairs and not does_something:
        yield warning(
            "DOES_NOTHING", WEIGHTS_FILE, "changes nothing: every product B·A is zero", "was it trained?"
        )


def _sum(pieces: Iterator[Matrix]) -> Gram:
    gram, unusable = None, 0
    with np.errstate(over="ignore", invalid="ignore"):
        for piece in pieces:
            product = (piece.T @ piece).astype(np.float64)
            # NaN and Inf always reach the diagonal, so that no number needs a look of its own. What got
            # there by overflow alone fits float64.
            if not math.isfinite(product.trace()):
                unusable += int(piece.size - np.count_nonzero(np.isfinite(piece)))
                product = piece.T.astype(np.float64) @ piece.astype(np.float64)
            gram = product if gram is None else gram + product
    if gram is None or unusable:
        return Gram(None, math.inf, unusable)
    return Gram(gram, math.sqrt(max(0.0, gram.trace())))


def _as_float(stored: npt.NDArray[np.generic], dtype: str) -> Matrix:
    if dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float64 if dtype == "F64" else np.float32, copy=False)


def _unusable(tensor: Tensor, gram: Gram) -> Finding:
    return error(
        "NOT_FINITE",
        tensor.name,
        f"holds {gram.unusable} values that are NaN or infinite: they would spoil everyone's answers",
        "training diverged; take an earlier checkpoint",
    )
