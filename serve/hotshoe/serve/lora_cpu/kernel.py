"""The operators' inner loops for few rows per adapter, compiled by numba (which vLLM brings).

One call does all adapters of a layer: at a few rows each, calling BLAS once per adapter and module
costs more than the arithmetic. Every weight is read from memory once, which is the bound up to about four
rows an adapter; blocks of BLOCK rows by BLOCK ranks keep the arithmetic in registers. From LONG_RUN rows
on BLAS is faster (see plan).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba  # type: ignore[import-untyped]
import numpy as np
from numba import types
from numba.extending import intrinsic  # type: ignore[import-untyped]

Floats = np.ndarray[Any, np.dtype[np.float32]]
Result = TypeVar("Result")

Ints = np.ndarray[Any, np.dtype[np.int64]]

ADD_SIGNATURE = (
    "void(float32[:,::1], float32[:,::1], int64[::1], int64[::1], int64[:,::1], int64[:,::1],"
    " int64[:,::1], int64[::1])"
)

TRANSPOSE_SIGNATURE = "void(float32[:,::1], float32[:,::1], float32)"

FINITE_SIGNATURE = "boolean(float32[::1])"

BLOCK = 4

# Sums may be reordered and fused; NaN and infinity keep their meaning.
_OPTIONS = {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True, "boundscheck": False}


def _compiled(signature: str) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Compile now, not in somebody's request; keep the result on disk where there is a place for it."""

    def compile_(function: Callable[..., Result]) -> Callable[..., Result]:
        try:
            made: Callable[..., Result] = numba.njit(signature, cache=True, **_OPTIONS)(function)
        except RuntimeError:  # Neither this folder nor the user's cache can be written.
            made = numba.njit(signature, **_OPTIONS)(function)
        return made

    return compile_


@intrinsic  # type: ignore[untyped-decorator]
def _floats_at(_typing: Any, address: Any) -> Any:
    """An address as a pointer to floats."""
    signature = types.CPointer(types.float32)(types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, generate


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _shrink(hidden: Floats, x: Floats, rows: Ints, a: Floats) -> None:
    """hidden[: len(rows)] = x[rows] A^T, with A [rank, inputs]."""
    rank, inputs = a.shape
    whole = len(rows) - len(rows) % BLOCK
    zero = np.float32(0)
    for k in range(0, rank - rank % BLOCK, BLOCK):
        a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
        for i in range(0, whole, BLOCK):
            r, s, t, u = x[rows[i]], x[rows[i + 1]], x[rows[i + 2]], x[rows[i + 3]]
            r0 = r1 = r2 = r3 = s0 = s1 = s2 = s3 = zero
            t0 = t1 = t2 = t3 = u0 = u1 = u2 = u3 = zero
            for n in range(inputs):
                r0, r1, r2, r3 = r0 + r[n] * a0[n], r1 + r[n] * a1[n], r2 + r[n] * a2[n], r3 + r[n] * a3[n]
                s0, s1, s2, s3 = s0 + s[n] * a0[n], s1 + s[n] * a1[n], s2 + s[n] * a2[n], s3 + s[n] * a3[n]
                t0, t1, t2, t3 = t0 + t[n] * a0[n], t1 + t[n] * a1[n], t2 + t[n] * a2[n], t3 + t[n] * a3[n]
                u0, u1, u2, u3 = u0 + u[n] * a0[n], u1 + u[n] * a1[n], u2 + u[n] * a2[n], u3 + u[n] * a3[n]
            hidden[i, k], hidden[i, k + 1], hidden[i, k + 2], hidden[i, k + 3] = r0, r1, r2, r3
            hidden[i + 1, k], hidden[i + 1, k + 1], hidden[i + 1, k + 2], hidden[i + 1, k + 3] = (
                s0,
                s1,
                s2,
                s3,
            )
            hidden[i + 2, k], hidden[i + 2, k + 1], hidden[i + 2, k + 2], hidden[i + 2, k + 3] = (
                t0,
                t1,
                t2,
                t3,
            )
            hidden[i + 3, k], hidden[i + 3, k + 1], hidden[i + 3, k + 2], hidden[i + 3, k + 3] = (
                u0,
                u1,
                u2,
                u3,
            )
        for i in range(whole, len(rows)):
            r = x[rows[i]]
            r0 = r1 = r2 = r3 = zero
            for n in range(inputs):
                r0, r1, r2, r3 = r0 + r[n] * a0[n], r1 + r[n] * a1[n], r2 + r[n] * a2[n], r3 + r[n] * a3[n]
            hidden[i, k], hidden[i, k + 1], hidden[i, k + 2], hidden[i, k + 3] = r0, r1, r2, r3
    for k in range(rank - rank % BLOCK, rank):
        for i in range(len(rows)):
            total = zero
            for n in range(inputs):
                total += x[rows[i], n] * a[k, n]
            hidden[i, k] = total


@numba.njit(**_OPTIONS)  # type: ignore[untyped-decorator]
def _expand(y: Floats, rows: Ints, left: int, hidden: Floats, b: Floats) -> None:
    """y[rows, left : left + outputs] += hidden[: len(rows)] B, with B [rank, outputs]."""
    rank, outputs = b.shape
    whole = len(rows) - len(rows) % BLOCK
    right = left + outputs
    for k in range(0, rank - rank % BLOCK, BLOCK):
        b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
        for i in range(0, whole, BLOCK):
            r, s = y[rows[i], left:right], y[rows[i + 1], left:right]
            t, u = y[rows[i + 2], left:right], y[rows[i + 3], left:right]
            r0, r1, r2, r3 = hidden[i, k], hidden[i, k + 1], hidden[i, k + 2], hidden[i, k + 3]
            s0, s1, s2, s3 = (
                hidden[i + 1, k],
                hidden[i + 1, k + 1],
                hidden[i + 1, k + 2],
                hidden[i + 1, k + 3],
            )
            t0, t1, t2, t3 = (
                hidden[i + 2, k],
                hidden[i + 2, k + 1],
                hidden[i + 2, k + 2],
                hidden[i + 2, k + 3],
            )
            u0, u1, u2, u3 = (
                hidden[i + 3, k],
                hidden[i + 3, k + 1],
                hidden[i + 3, k + 2],
                hidden[i + 3, k + 3],
            )
            for n in range(outputs):
                r[n] += r0 * b0[n] + r1 * b1[n] + r2 * b2[n] + r3 * b3[n]
                s[n] += s0 * b0[n] + s1 * b1[n] + s2 * b2[n] + s3 * b3[n]
                t[n] += t0 * b0[n] + t1 * b1[n] + t2 * b2[n] + t3 * b3[n]
                u[n] += u0 * b0[n] + u1 * b1[n] + u2 * b2[n] + u3 * b3[n]
        for i in range(whole, len(rows)):
            r = y[rows[i], left:right]
            r0, r1, r2, r3 = hidden[i, k], hidden[i, k + 1], hidden[i, k + 2], hidden[i, k + 3]
            for n in range(outputs):
                r[n] += r0 * b0[n] + r1 * b1[n] + r2 * b2[n] + r3 * b3[n]
    for k in range(rank - rank % BLOCK, rank):
        for i in range(len(rows)):
            r = y[rows[i], left:right]
            for n in range(outputs):
                r[n] += hidden[i, k] * b[k, n]


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
    longest = 0
    for adapter in range(len(starts) - 1):
        longest = max(longest, starts[adapter + 1] - starts[adapter])
    hidden = np.empty((longest, ranks.max()), np.float32)
    for adapter in range(len(starts) - 1):
        mine = rows[starts[adapter] : starts[adapter + 1]]
        for piece in range(len(edges) - 1):
            rank = ranks[adapter, piece]
            if rank:
                left, outputs = edges[piece], edges[piece + 1] - edges[piece]
                _shrink(hidden, x, mine, numba.carray(_floats_at(a[adapter, piece]), (rank, x.shape[1])))
                _expand(y, mine, left, hidden, numba.carray(_floats_at(b[adapter, piece]), (rank, outputs)))


@_compiled(TRANSPOSE_SIGNATURE)
def transpose_scaled(y: Floats, x: Floats, scale: float) -> None:
    """y = scale * x^T, with x [rows, columns]. torch's own takes more than twice as long for 16 columns."""
    rows, columns = x.shape
    for i in range(rows):
        for k in range(columns):
            y[k, i] = x[i, k] * scale


@_compiled(FINITE_SIGNATURE)
def all_finite(x: Floats) -> bool:
    """Whether no number is NaN or infinite: those times zero are NaN."""
    total = np.float32(0)
    for n in range(len(x)):
        total += x[n] * np.float32(0)
    return bool(total == 0)
