"""The operators' inner loops for few rows per adapter, compiled by numba (which vLLM brings).

One call does all adapters of a layer: at a few rows each, calling BLAS once per adapter and module
costs more than the arithmetic. It reads every weight once and is bound by memory for one row, by
arithmetic from about eight; from LONG_RUN rows on BLAS is faster (see plan).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba  # type: ignore[import-untyped]
import numpy as np
from numba import types
from numba.extending import intrinsic  # type: ignore[import-untyped]

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

ADD_SIGNATURE = (
    "void(float32[:,::1], float32[:,::1], int64[::1], int64[::1], int64[:,::1], int64[:,::1],"
    " int64[:,::1], int64[::1])"
)


def _compiled(signature: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Compile now, not in somebody's request; keep the result on disk where there is a place for it."""

    def compile_(function: Callable[..., None]) -> Callable[..., None]:
        # Sums may be reordered and fused; NaN and infinity keep their meaning.
        options = {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True, "boundscheck": False}
        try:
            made: Callable[..., None] = numba.njit(signature, cache=True, **options)(function)
        except RuntimeError:  # Neither this folder nor the user's cache can be written.
            made = numba.njit(signature, **options)(function)
        return made

    return compile_


@intrinsic  # type: ignore[untyped-decorator]
def _floats_at(_typing: Any, address: Any) -> Any:
    """An address as a pointer to floats."""
    signature = types.CPointer(types.float32)(types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, generate


@_compiled(ADD_SIGNATURE)
def add_rows(
    y: Floats, x: Floats, rows: Ints, starts: Ints, a: Ints, b: Ints, ranks: Ints, edges: Ints
) -> None:
    """y[rows] += (x[rows] A^T) B, in place, for every adapter of a layer.

    y: [tokens, sum of outputs]. x: [tokens, inputs]. rows: row numbers, those of one adapter together.
    starts: where each adapter's rows begin in `rows`, and the end. a, b, ranks: [adapters, slices], the
    addresses of A [rank, inputs] and B [rank, outputs], and the rank, 0 where there is nothing. edges:
    where each slice begins in y's columns, and the end.
    """
    inputs = x.shape[1]
    longest = 0
    for adapter in range(len(starts) - 1):
        longest = max(longest, starts[adapter + 1] - starts[adapter])
    hidden = np.empty((longest, ranks.max()), np.float32)
    for adapter in range(len(starts) - 1):
        mine = rows[starts[adapter] : starts[adapter + 1]]
        for piece in range(len(edges) - 1):
            rank = ranks[adapter, piece]
            if rank == 0:
                continue
            left, right = edges[piece], edges[piece + 1]
            weights = numba.carray(_floats_at(a[adapter, piece]), (rank, inputs))
            # A row of A stays in the first cache while all rows of x go by.
            for k in range(rank):
                for i in range(len(mine)):
                    total = np.float32(0)
                    for n in range(inputs):
                        total += x[mine[i], n] * weights[k, n]
                    hidden[i, k] = total
            weights = numba.carray(_floats_at(b[adapter, piece]), (rank, right - left))
            whole = rank - rank % 4
            # Four rows of B at a time, so that y is read and written a quarter as often.
            for k in range(0, whole, 4):
                for i in range(len(mine)):
                    out = y[mine[i], left:right]
                    h0, h1, h2, h3 = hidden[i, k], hidden[i, k + 1], hidden[i, k + 2], hidden[i, k + 3]
                    for n in range(right - left):
                        out[n] += (
                            h0 * weights[k, n]
                            + h1 * weights[k + 1, n]
                            + h2 * weights[k + 2, n]
                            + h3 * weights[k + 3, n]
                        )
            for k in range(whole, rank):
                for i in range(len(mine)):
                    out = y[mine[i], left:right]
                    for n in range(right - left):
                        out[n] += hidden[i, k] * weights[k, n]
